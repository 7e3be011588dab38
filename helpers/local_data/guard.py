"""A look through a text file before it is parsed, a megabyte at a time, so that no line can fill the memory."""

from __future__ import annotations

import codecs
from pathlib import Path

from helpers.runtime import UserError

CHUNK = 2**20
LINE_LIMIT = 10_000_000  # bytes: a text of a million words is still shorter
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def check_text(path: Path, encoding: str = "") -> str:
    """Return the encoding to read the file with: the one given, the one its byte-order mark names, or UTF-8.

    Raises:
        UserError: naming the line, when it is too long, does not fit the encoding, or is no text.
    """
    with path.open("rb") as file:
        start = file.read(4)
    marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
    if not encoding or (encoding, marked) == ("utf-8", "utf-8-sig"):
        encoding = marked
    decoder = codecs.getincrementaldecoder(encoding)()
    line, length = 1, 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK)
            if b"\0" in chunk and not encoding.startswith(("utf-16", "utf-32")):
                raise UserError(f"data: {path.name} is no text file, whatever its ending says; save it as CSV, UTF-8.")
            _decode(decoder, chunk, path, encoding, line)
            if not chunk:
                return encoding
            line, length = _measure(chunk, path, line, length)


def _measure(chunk: bytes, path: Path, line: int, length: int) -> tuple[int, int]:
    """Count on from (line, its length so far); a UserError when a line outgrows the limit."""
    for number, piece in enumerate(chunk.replace(b"\r", b"\n").split(b"\n")):
        length = len(piece) if number else length + len(piece)
        if length > LINE_LIMIT:
            at = line + chunk[: chunk.find(piece)].count(b"\n")
            raise UserError(
                f"data: {path.name}, line {at} is longer than {LINE_LIMIT // 1_000_000} million bytes, which is no "
                "text for a lesson; look whether its line ends or quotes are missing, then cut or remove it."
            )
    return line + chunk.count(b"\n"), length


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, encoding: str, line: int) -> None:
    try:
        decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        at = line + error.object[: error.start].count(b"\n")
        other = "latin-1" if encoding.startswith("utf") else "utf-8"
        raise UserError(
            f"data: {path.name}, line {at} is not {encoding.removesuffix('-sig').upper()} (byte "
            f"0x{error.object[error.start]:02x}); save the file as UTF-8, or say what it is: "
            f'data="{path.name}?encoding={other}".'
        ) from None
    except UnicodeError as error:  # such as UTF-16 without its mark
        raise UserError(
            f"data: {path.name} is not {encoding.upper()} ({error}); leave the encoding out, or say the right one."
        ) from None
