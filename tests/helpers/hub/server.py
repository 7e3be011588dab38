"""A small hub on loopback, for tests: the calls that `huggingface_hub` makes, and faults on request.

It answers repository information, trees, and file downloads as the real one does: a HEAD with the commit, the ETag and
the size; large files behind a redirect; ranges. `faults` makes chosen answers go wrong a number of times.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 20_000  # bytes from which a file lies in the large-file store, behind a redirect
INFORMATION = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
TREE = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
STORE = re.compile(r"/store/(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True)
class Fault:
    """What goes wrong, for the next `times` requests whose path holds `where`.

    kind: "status" (of `status`, with `headers`), "cut" (half the bytes), "garbled" (as many bytes, other ones), "slow"
    (nothing for `seconds`).
    """

    kind: str
    where: str = ""
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Repository:
    """Files under one commit, which is `pinned`, or else follows from the content."""

    files: dict[str, bytes]
    pinned: str | None = None

    @property
    def commit(self) -> str:
        """40 hexadecimal digits."""
        if self.pinned:
            return self.pinned
        digest = hashlib.sha1()
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()

    def entry(self, path: str) -> dict:
        """What a listing says of one file."""
        content = self.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": path, "rfilename": path, "size": len(content), "oid": blob, "blobId": blob}
        if len(content) >= LARGE:
            sha = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha, "sha256": sha, "size": len(content), "pointerSize": 134}
        return entry


class Hub:
    """The server: `with Hub(repositories) as hub`, then `hub.address` is what HF_ENDPOINT has to be.

    repositories: ("models" or "datasets", "owner/name") -> Repository. `requests` lists what was asked.
    """

    def __init__(self, repositories: dict[tuple[str, str], Repository], port: int = 0) -> None:
        self.repositories = repositories
        self.store = {
            hashlib.sha256(content).hexdigest(): content
            for repository in repositories.values()
            for content in repository.files.values()
        }
        self.faults: list[tuple[Fault, int]] = []
        self.requests: list[str] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://localhost:{self.server.server_port}"  # another host, as the real store is

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, kind: str, where: str = "", times: int = 1, **details) -> None:
        """Let the next `times` requests whose path holds `where` go wrong."""
        self.faults.append((Fault(kind, where, **details), times))

    def fault_for(self, path: str) -> Fault | None:
        """The fault that this request gets, counted down."""
        with self.lock:
            for place, (fault, times) in enumerate(self.faults):
                if fault.where in path and times > 0:
                    self.faults[place] = (fault, times - 1)
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        fault = self.hub.fault_for(f"{self.command} {path}")
        if fault and fault.kind == "slow":
            threading.Event().wait(fault.seconds)  # tests replace `time.sleep`
        if fault and fault.kind == "status":
            return self._send(fault.status, b"refused", fault.headers)
        for pattern, answer in ((TREE, self._tree), (INFORMATION, self._information), (FILE, self._file)):
            if found := pattern.fullmatch(path):
                return answer(found, fault)
        if (found := STORE.fullmatch(path)) and found["digest"] in self.hub.store:
            return self._bytes(self.hub.store[found["digest"]], {}, fault)
        return self._missing("RepoNotFound")

    def _repository(self, found: re.Match) -> Repository | None:
        kind = "datasets" if (found["kind"] or "").startswith("datasets") else "models"
        repository = self.hub.repositories.get((kind, found["name"]))
        if repository is None:
            self._missing("RepoNotFound", status=401 if kind == "models" else 404)
            return None
        if found["revision"] not in (None, "main", repository.commit):
            self._missing("RevisionNotFound")
            return None
        return repository

    def _information(self, found: re.Match, _fault: Fault | None) -> None:
        if repository := self._repository(found):
            siblings = [repository.entry(path) for path in repository.files]
            name = found["name"]
            about = {"id": name, "modelId": name, "sha": repository.commit, "private": False, "gated": False}
            self._json(about | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def _tree(self, found: re.Match, _fault: Fault | None) -> None:
        if repository := self._repository(found):
            under = f"{found['path']}/" if found["path"] else ""
            deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            paths = [path for path in repository.files if path.startswith(under)]
            self._json([repository.entry(path) for path in paths if deep or "/" not in path[len(under) :]])

    def _file(self, found: re.Match, fault: Fault | None) -> None:
        if not (repository := self._repository(found)):
            return None
        commit = {"X-Repo-Commit": repository.commit}
        if found["path"] not in repository.files:
            return self._missing("EntryNotFound", headers=commit)
        entry, content = repository.entry(found["path"]), repository.files[found["path"]]
        if "lfs" not in entry:
            return self._bytes(content, commit | {"ETag": f'"{entry["oid"]}"'}, fault)
        sha = entry["lfs"]["oid"]
        linked = {"X-Linked-ETag": f'"{sha}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", commit | linked | {"Location": f"{self.hub.storage}/store/{sha}"})

    def _bytes(self, content: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        status, first = 200, 0
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, first = 206, int(wanted[1])
            headers = headers | {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        part = content[first:]
        if fault and fault.kind == "garbled":
            part = bytes(byte ^ 255 for byte in part)
        if not (fault and fault.kind == "cut"):
            return self._send(status, part, headers | {"Accept-Ranges": "bytes"})
        self._head(status, len(part), headers)
        self.wfile.write(part[: len(part) // 2])
        self.close_connection = True
        return None

    def _missing(self, code: str, status: int = 404, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "not here"} | (headers or {}))

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(content), headers)
        if self.command == "GET":
            self.wfile.write(content)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
