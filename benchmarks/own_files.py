"""Measure the time and the memory to load, check and split a file of 200,000 labelled texts.

.venv/bin/python benchmarks/own_files.py [ROWS]
"""

from __future__ import annotations

import csv
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from helpers.own_data import load_labelled
from workbook.data_report import Report

SENTENCE = "the film was a slow but kind story of two sisters, and nobody in it says what they want to say"
STEPS = {"load and split": lambda path: load_labelled(path, seed=0), "check": lambda path: Report.on([str(path)])}


def write(path: Path, rows: int) -> None:
    """Write a CSV file of `rows` texts of 5 to 80 words, a few of them repeated, with one of four labels each."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            text = " ".join(draw.choices(SENTENCE.split(), k=draw.randint(5, 80)))
            writer.writerow([f'No. {row}: "{text}"', "abcd"[row % 4]])
            if row % 50 == 0:
                writer.writerow([f'No. {row}: "{text}"', "abcd"[row % 4]])


def main(rows: int) -> None:
    """Print seconds and the process's peak memory after each step."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.csv"
        write(path, rows)
        print(f"{rows:,} rows, {path.stat().st_size / 1e6:.0f} MB")
        for name, step in STEPS.items():
            start, busy = time.perf_counter(), time.process_time()
            step(path)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            seconds = f"{time.perf_counter() - start:6.1f} s ({time.process_time() - busy:.1f} s of computing)"
            print(f"{name:16}{seconds}, peak {peak:.2f} GB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
