"""A stub of the Hugging Face hub and of ModelScope that serves folders, and can be told to fail.

A stub and not a hub: no network reaches the tests. The clients are the real ones, huggingface_hub 2.4.0 (HF_ENDPOINT)
and modelscope_hub 0.5.1 (MODELSCOPE_ENDPOINT), and for data sets, below datasets/, the library datasets 5.2.0; paths,
headers and error codes are those that they read, large files are redirected to another path as the hub's LFS files are,
and ranges are honoured. It needs the standard library only, also runs by itself
(`python faulty_hub.py --root DIR --port PORT`), and counts every byte of every file that it sends.

    POST /_control/faults  [{"kind": "stall", "match": "file/org/name/*", "after": 1000, "times": 1}, ...]
    GET  /_control/state   {"sent": {"org/name/file": bytes}, "requests": ["GET file/org/name/file 0-", ...]}
    POST /_control/reset   forgets faults and counts
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import hashlib
import json
import select
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_NAMES = ("*.safetensors", "*.bin", "*.gguf", "*.pth", "*.parquet", "*.gz", "*.zst")
PIECE = 64 * 1024
ERROR_CODES = {403: "GatedRepo", 404: "EntryNotFound"}


@dataclasses.dataclass
class Fault:
    """What goes wrong, with which requests, and how often.

    kind: stall (send `after` bytes, then nothing), hold (send `after` bytes, and the rest when the fault is forgotten),
    cut (send `after` bytes, then close), status (answer `status`), rate (send `rate` bytes a second), corrupt (send
    other bytes), size (list `delta` more bytes than there are).
    match: of the subject: api/ORG/NAME, tree/ORG/NAME or file/ORG/NAME/FILE. times: requests; -1 all of them.
    """

    kind: str
    match: str = "file/*"
    after: int = 0
    times: int = -1
    status: int = 500
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    rate: int = 0
    delta: int = 0


class FaultyHub:
    """Serves the models ROOT/org/name/ and the data sets ROOT/datasets/org/name/ on loopback."""

    def __init__(
        self, root: Path, *, host: str = "127.0.0.1", port: int = 0, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.sent: Counter[str] = Counter()
        """Bytes of content by org/name/file."""
        self.requests: list[str] = []
        self.xet: dict[str, str] = {}
        """Xet's hash by org/name/file, of files that are also offered by that protocol."""
        self.xet_store = ""
        """Where Xet's client finds their content: http://..., or local:///folder."""
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._hashes: dict[tuple[str, int, int], tuple[str, str]] = {}
        self.server = Server((host, port), self._handler())
        self.scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """What HF_ENDPOINT or MODELSCOPE_ENDPOINT is to be."""
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> FaultyHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(10)

    def add(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Serve these files, too."""
        for name, content in files.items():
            path = self.root / repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def reset(self) -> None:
        """Forget faults and counts."""
        self.faults, self.requests = [], []
        self.sent.clear()

    def fault(self, subject: str, *kinds: str) -> Fault | None:
        """The fault that this request is to suffer."""
        with self._lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.times != 0 and fnmatch.fnmatch(subject, fault.match):
                    fault.times -= 1
                    return fault
        return None

    def count(self, name: str, number: int) -> None:
        """Note bytes sent."""
        with self._lock:
            self.sent[name] += number

    def files(self, repository: str) -> dict[str, Path]:
        """Files by name; empty where there is no such repository."""
        folder = self.root / repository
        if ".." in repository or not folder.is_dir():
            return {}
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def hashes(self, path: Path) -> tuple[str, str]:
        """sha256, and git's object id."""
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in self._hashes:
            content = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._hashes[key] = (hashlib.sha256(content).hexdigest(), blob)
        return self._hashes[key]

    def commit(self, repository: str) -> str:
        """Changes with the files."""
        content = "".join(f"{name} {self.hashes(path)[1]}\n" for name, path in self.files(repository).items())
        return hashlib.sha1(content.encode()).hexdigest()

    def known(self, repository: str, revision: str) -> bool:
        """Whether there is such a revision."""
        return revision in ("main", "master", self.commit(repository))

    def listing(self, repository: str, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The hub's listing of a folder, which is empty for the whole repository."""
        below = f"{folder}/" if folder else ""
        entries = [entry for entry in self.tree(repository) if entry["path"].startswith(below)]
        if recursive:
            return entries
        shown: dict[str, dict[str, Any]] = {}
        for entry in entries:
            name, deeper, _ = entry["path"][len(below) :].partition("/")
            shown[name] = {"type": "directory", "oid": "", "size": 0, "path": below + name} if deeper else entry
        return list(shown.values())

    def tree(self, repository: str) -> list[dict[str, Any]]:
        """All files, as the hub lists them."""
        lie = self.fault(f"tree/{repository}", "size")
        entries = []
        for name, path in self.files(repository).items():
            sha256, blob = self.hashes(path)
            size = path.stat().st_size + (lie.delta if lie and is_lfs(name) else 0)
            entry: dict[str, Any] = {"type": "file", "oid": blob, "size": size, "path": name}
            if f"{repository}/{name}" in self.xet:
                entry["xetHash"] = self.xet[f"{repository}/{name}"]
            if is_lfs(name):
                entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 134}
            entries.append(entry)
        return entries

    def scope_tree(self, repository: str) -> list[dict[str, Any]]:
        """ModelScope's listing."""
        commit = self.commit(repository)
        return [
            {
                "Path": entry["path"], "Name": entry["path"].rpartition("/")[2], "Type": "blob", "Size": entry["size"],
                "Sha256": self.hashes(self.files(repository)[entry["path"]])[0], "Revision": commit,
                "CommittedDate": 1700000000, "IsLFS": "lfs" in entry,
            }
            for entry in self.tree(repository)
        ]  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (Handler,), {"hub": self})


class Server(ThreadingHTTPServer):
    """Says nothing of clients that go away; they are killed on purpose."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: FaultyHub

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        content = self._body()
        if self.path == "/_control/faults":
            self.hub.faults = [Fault(**fields) for fields in json.loads(content)]
        elif self.path == "/_control/reset":
            self.hub.reset()
        else:
            self._json({}, 404)
            return
        self._json({})

    def _body(self) -> bytes:
        """What was sent; an API server's proxy sends it in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            self._route(parts, query)
        except ConnectionError:
            self.close_connection = True

    def _route(self, parts: list[str], query: dict[str, str]) -> None:
        if parts == ["_control", "state"]:
            self._json({"sent": self.hub.sent, "requests": self.hub.requests})
        elif parts[:3] == ["api", "v1", "models"] or parts[:3] == ["openapi", "v1", "models"]:
            self._model_scope("/".join(parts[3:5]), parts[5:], query)
        elif parts[:2] in (["api", "models"], ["api", "datasets"]):
            self._api(*split(parts[2:] if parts[1] == "models" else parts[1:]), query)
        elif parts[0] == "cdn":
            repository, rest = split(parts[1:])
            self._file(repository, "/".join(rest))
        else:
            repository, rest = split(parts)
            if rest[:1] == ["resolve"] and len(rest) > 2:
                self._resolve(repository, rest[1], "/".join(rest[2:]))
            else:
                self._json({}, 404)

    def _api(self, repository: str, rest: list[str], query: dict[str, str]) -> None:
        kind = "tree" if rest[:1] == ["tree"] else "api"
        if self._refused(f"{kind}/{repository}") or self._missing(repository, rest[1] if len(rest) > 1 else "main"):
            return
        if kind == "tree":
            entries = self.hub.listing(repository, "/".join(rest[2:]), query.get("recursive", "").lower() == "true")
            if entries:
                self._json(entries)
            else:
                self._json({}, 404, {"X-Error-Code": "EntryNotFound"})
        elif rest[:1] == ["xet-read-token"]:
            token = {"X-Xet-Access-Token": "any", "X-Xet-Token-Expiration": str(int(time.time()) + 3600)}
            self._json({}, headers={"X-Xet-Cas-Url": self.hub.xet_store, **token})
        else:
            siblings = [{"rfilename": name} for name in self.hub.files(repository)]
            self._json({"id": repository, "sha": self.hub.commit(repository), "siblings": siblings})

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        if self._refused(f"resolve/{repository}/{name}") or self._missing(repository, revision):
            return
        path = self.hub.files(repository).get(name)
        if path is None:
            self._json({}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        if not is_lfs(name):
            self._file(repository, name)
            return
        location = f"{self.hub.scheme}://{self.headers['Host']}/cdn/{repository}/{quote(name)}"
        self._json({}, 302, self._metadata(repository, name) | {"Location": location})

    def _metadata(self, repository: str, name: str) -> dict[str, str]:
        path = self.hub.files(repository)[name]
        sha256, blob = self.hub.hashes(path)
        headers = {"X-Repo-Commit": self.hub.commit(repository), "ETag": f'"{sha256 if is_lfs(name) else blob}"'}
        linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-Etag": headers["ETag"]}
        if f"{repository}/{name}" in self.hub.xet:
            route = f"{self.hub.scheme}://{self.headers['Host']}/api/models/{repository}/xet-read-token/{headers['X-Repo-Commit']}"
            linked |= {"X-Xet-Hash": self.hub.xet[f"{repository}/{name}"], "X-Xet-Refresh-Route": route}
        # The client follows a redirect to the same host, and then wants them from there.
        return headers | linked if is_lfs(name) else headers

    def _model_scope(self, repository: str, rest: list[str], query: dict[str, str]) -> None:
        subject = f"file/{repository}/{query['FilePath']}" if "FilePath" in query else f"tree/{repository}"
        if "FilePath" not in query and self._refused(subject):
            return
        if not self.hub.files(repository) or (rest and not self.hub.known(repository, query.get("Revision", "master"))):
            self._json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        elif rest == ["repo", "files"]:
            self._json({"Code": 200, "Success": True, "Data": {"Files": self.hub.scope_tree(repository)}})
        elif rest == ["repo"] and query["FilePath"] in self.hub.files(repository):
            self._file(repository, query["FilePath"])
        elif not rest:
            owner, _, name = repository.partition("/")
            data = {"Path": owner, "Name": name, "id": repository}
            self._json({"Code": 200, "Success": True, "success": True, "Data": data, "data": data})
        else:
            self._json({"Code": 404, "Message": "no such file", "Success": False}, 404)

    def _missing(self, repository: str, revision: str) -> bool:
        if not self.hub.files(repository):
            # The hub does not tell strangers what exists.
            status = 404 if self.headers.get("Authorization") else 401
            self._json({}, status, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif not self.hub.known(repository, revision):
            self._json({}, 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        else:
            return False
        return True

    def _refused(self, subject: str) -> bool:
        self.hub.requests.append(f"{self.command} {subject}")
        fault = self.hub.fault(subject, "status")
        if fault is None:
            return False
        headers = {"X-Error-Code": ERROR_CODES[fault.status]} if fault.status in ERROR_CODES else {}
        if fault.status == 401:
            headers["X-Error-Message"] = "Invalid credentials in Authorization header"
        self._json({}, fault.status, headers | fault.headers)
        return True

    def _json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _file(self, repository: str, name: str) -> None:
        path = self.hub.files(repository)[name]
        size = path.stat().st_size
        start, end = 0, size
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, size) if last else size
        subject = f"file/{repository}/{name}"
        if self.command != "HEAD" and self._refused(subject):
            return
        if start > size:
            self._json({}, 416, {"Content-Range": f"bytes */{size}"})
            return
        if self.command != "HEAD":
            self.hub.requests[-1] += f" {start}-"
        ranges = {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if asked else {}
        self._head(206 if asked else 200, end - start, {**self._metadata(repository, name), **ranges})
        if self.command != "HEAD":
            self._content(path, start, end - start, f"{repository}/{name}")

    def _content(self, path: Path, start: int, length: int, name: str) -> None:
        fault = self.hub.fault(f"file/{name}", "stall", "hold", "cut", "rate", "corrupt")
        with path.open("rb") as file:
            if fault is None:
                try:
                    self.connection.sendfile(file, start, length)
                finally:
                    self.hub.count(name, file.tell() - start)
                return
            file.seek(start)
            first = min(fault.after, length) if fault.kind in ("stall", "hold", "cut") else length
            self._pieces(file, first, name, fault)
            if fault.kind == "hold":
                while fault in self.hub.faults and not self.hub.closing.is_set():
                    time.sleep(0.02)
                self._pieces(file, length - first, name, fault)
        if fault.kind in ("stall", "cut"):
            self.close_connection = True
            while fault.kind == "stall" and not self.hub.closing.is_set():
                if select.select([self.connection], [], [], 0.1)[0]:
                    return

    def _pieces(self, file: BinaryIO, left: int, name: str, fault: Fault) -> None:
        """Send so many bytes, as the fault has it."""
        while left:
            piece = file.read(min(left, PIECE))
            if fault.kind == "corrupt":
                piece = bytes(byte ^ 1 for byte in piece)
            self.wfile.write(piece)
            self.hub.count(name, len(piece))
            left -= len(piece)
            if fault.rate:
                time.sleep(len(piece) / fault.rate)


def split(parts: list[str]) -> tuple[str, list[str]]:
    """The repository that a path begins with, org/name or datasets/org/name, and the rest."""
    size = 3 if parts[0] == "datasets" else 2
    return "/".join(parts[:size]), parts[size:]


def is_lfs(name: str) -> bool:
    """Whether a file is kept in LFS."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in LFS_NAMES)


def main() -> None:
    """Serve for ever."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    line.add_argument("--root", type=Path, required=True, help="folder of org/name/ folders")
    line.add_argument("--port", type=int, default=8080)
    line.add_argument("--host", default="127.0.0.1")
    given = line.parse_args()
    with FaultyHub(given.root, host=given.host, port=given.port) as hub:
        print(f"serving {given.root} on {given.host}:{hub.server.server_port}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
