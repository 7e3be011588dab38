"""`workbook export`: writes a temporary folder, checks it in a separate process, and moves it to its place."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from safetensors import SafetensorError

from helpers.files import write_json, write_text
from helpers.record import FILE
from helpers.runtime import UserError, quiet_libraries
from workbook.engine.interrupts import INTERRUPTED, interruptible
from workbook.engine.screen import say, shown
from workbook.export.card import Findings, card
from workbook.export.classifier import write_classifier
from workbook.export.comparison import ask, check_answers, check_logits, equal_answers
from workbook.export.decoder import write_decoder
from workbook.export.gguf_file import why_not, write_gguf
from workbook.export.kept import Kept, find_kept

# The GGUF file has its own folder. Beside a tokenizer.json, `transformers` would load that file and no chat template.
GGUF = Path("gguf", "model-f32.gguf")
GGUF_NOTE = """\
`{folder}/{name}` has the same weights in float32, the tokenizer and the chat template, for programs that read GGUF.
Loaded again with `from_pretrained("{folder}", gguf_file="{name}")`, it gave the same greedy answers as this folder on
{count} of {count} prompts. It was not tried with llama.cpp, whose `llama-quantize` makes smaller files of it.
"""


def export(run: str, runs: Path, target: Path, lesson: str = "", gguf: bool = True) -> int:
    """Export the kept model of a run to the folder `target`; return the exit status.

    Raises:
        UserError: there is no such model, `target` is not empty, or the written model differs from the lesson's model.
    """
    target = target.expanduser().absolute()
    _check_target(target)
    kept = find_kept(run, runs, lesson)
    quiet_libraries(offline=True)
    console = Console(soft_wrap=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with interruptible(), console.status("Starting") as status:
            findings = _build(kept, staging, status.update, gguf)
            write_text(staging / "README.md", card(kept, target.name, findings))
            _place(staging, target)
    except KeyboardInterrupt:
        say("Stopped. Nothing was exported.", console)
        return INTERRUPTED
    except SafetensorError as error:  # safetensors reports a full disk without an errno
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, "No space left" if full else str(error), target) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for line in findings.compared:
        say(f"  {line}", console)
    say(
        f"Exported {kept.lesson} to {shown(target)} ({_megabytes(target)} MB). Its README.md is the model card.",
        console,
    )
    return 0


def _check_target(target: Path) -> None:
    if target.is_file():
        raise UserError(f"{target} is a file; name a folder that does not exist yet.")
    if target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target} is not empty, and an export replaces nothing: name another folder.")


def _build(kept: Kept, folder: Path, tell: Callable[[str], None], gguf: bool) -> Findings:
    """Write everything except the model card to the folder."""
    tell("Writing weights and tokenizer")
    write_json(folder / FILE, kept.recorded | {"parameters": kept.parameters})
    family = json.loads((kept.folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    count = len(kept.facts["examples"])
    if kept.is_classifier:
        for path in kept.folder.iterdir():
            if path.name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "added_tokens")):
                shutil.copyfile(path, folder / path.name)
        written = write_classifier(kept, folder)
        tell("Loading the folder in a process of its own")
        said = ask(kept, folder, without_code=written.without_code)
        compared = [_difference(count, check_logits(said["said"], kept.facts["said"], "The folder"))]
        if written.without_code:
            difference = check_logits(said["without_code"], kept.facts["said"], written.without_code)
            compared.append(
                f"As {written.without_code}, without this folder's code, they differ by {difference:.0e} at most."
            )
        return Findings(compared, family, written.without_code)
    write_decoder(kept, folder)
    tell("Loading the folder in a process of its own")
    said = ask(kept, folder)
    equal = check_answers(said["said"], kept.facts["said"])
    compared = [
        f"Loaded without the workbook, it gave {equal} of the {count} greedy answers that the lesson's model gave."
    ]
    if not gguf:
        return Findings(compared, family)
    tell("Writing the GGUF file")
    note, name = _with_gguf(kept, folder, said, tell)
    compared.append(note if not name else f"{name}, loaded through gguf_file, gave the same {count} answers.")
    return Findings(compared, family, gguf=name, gguf_note=note)


def _with_gguf(kept: Kept, folder: Path, said: dict, tell: Callable[[str], None]) -> tuple[str, str]:
    """Write and check a GGUF file; return a note for the card, and the file's name or "" if there is none."""
    if reason := why_not(folder):
        return f"There is no GGUF file: {reason}.", ""
    (folder / GGUF.parent).mkdir()
    path = write_gguf(folder, folder / GGUF)
    tell("Loading the GGUF file in a process of its own")
    again = ask(kept, path.parent, gguf=path.name)
    equal, count = equal_answers(again["said"], said["said"]), len(said["said"])
    if equal == count:
        return GGUF_NOTE.format(folder=GGUF.parent, name=path.name, count=count), GGUF.as_posix()
    shutil.rmtree(path.parent)
    others = sum(one != other for one, other in zip(again["ids"], said["ids"], strict=True))
    why = f"its tokenizer reads {others} of the prompts as other tokens" if others else "its weights round differently"
    return f"There is no GGUF file: loaded again it gave {equal} of {count} answers, because {why}.", ""


def _difference(count: int, difference: float) -> str:
    loaded = "Loaded without the workbook, its logits"
    if difference == 0:
        return f"{loaded} for {count} texts are those of the lesson's model to the bit."
    return f"{loaded} for {count} texts differ by {difference:.0e} at most from those of the lesson's model."


def _place(staging: Path, target: Path) -> None:
    # Temporary folders, and files that safetensors writes, are at first readable by their owner only.
    for path in (staging, *staging.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if target.is_dir():
        target.rmdir()  # `_check_target` has checked that it is empty
    staging.rename(target)


def _megabytes(folder: Path) -> int:
    return max(1, round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6))
