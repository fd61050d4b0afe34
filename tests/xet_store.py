"""A store of Xet's content behind HTTP: the real client writes a file into a folder, and reads it back from here.

The answers are those that hf_xet 1.8.0 reads (xet-core: cas_types, QueryReconstructionResponse): a file is the chunks
of one xorb, which are a range of bytes of it. A chunk begins with 8 bytes: version, 3 of its length as it is stored,
how it is compressed, and 3 of its length (xorb_chunk_format). The chunks end before the footer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from tests.support.servers import Serving

# In a process of its own: the client has threads that outlive their use.
WRITE = """
import sys
import hf_xet
with hf_xet.XetSession().new_upload_commit(endpoint=sys.argv[1]) as commit:
    upload = commit.start_upload_file(sys.argv[2], hf_xet.SKIP_SHA256)
print(upload.result().xet_info.hash)
"""
FOOTER = b"XETBLOB"
HEADER = 8


def write(folder: Path, file: Path, home: Path) -> str:
    """Put a file into a store that is a folder; its hash.

    Args:
        folder: the store.
        file: what to put there.
        home: where the client keeps its own files.
    """
    command = [sys.executable, "-c", WRITE, f"local://{folder}", str(file)]
    env = {"HF_HOME": str(home / "hf"), "HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


class XetStore(Serving):
    """Serves the one file of a folder that `write` filled, on loopback and by TLS."""

    def __init__(self, folder: Path, hash_: str, certificate: tuple[Path, Path], host: str) -> None:
        """`host` is the name by which clients know it."""
        (xorb,) = (path for path in (folder / "xet" / "xorbs" / "xorbs").iterdir() if path.suffix != ".tagset")
        self.requests: list[str] = []
        handler = type("Bound", (_Handler,), {"store": self, "content": xorb.read_bytes(), "host": host})
        self.xorb, self.hash = xorb.name.removeprefix("default."), hash_
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), handler), certificate)


def chunks(xorb: bytes) -> tuple[int, int, int]:
    """How many chunks a xorb has, how many bytes of it they are, and how many bytes they hold."""
    count = place = held = 0
    while not xorb.startswith(FOOTER, place):
        stored = int.from_bytes(xorb[place + 1 : place + 4], "little")
        held += int.from_bytes(xorb[place + 5 : place + 8], "little")
        place += HEADER + stored
        count += 1
    return count, place, held


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ClassVar[XetStore]
    content: ClassVar[bytes]
    host: ClassVar[str]

    def do_GET(self) -> None:
        self.store.requests.append(self.path)
        if self.path == f"/v1/reconstructions/{self.store.hash}":
            self._answer(200, json.dumps(self._reconstruction()).encode())
        elif self.path == f"/xorbs/{self.store.xorb}":
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            self._answer(206, self.content[int(first) : int(last) + 1])
        else:
            self._answer(404, b"{}")

    def _reconstruction(self) -> dict[str, object]:
        count, size, held = chunks(self.content)
        every, name = {"start": 0, "end": count}, self.store.xorb
        url = {"url": f"https://{self.host}/xorbs/{name}", "url_range": {"start": 0, "end": size - 1}}
        return {
            "offset_into_first_range": 0,
            "terms": [{"hash": name, "unpacked_length": held, "range": every}],
            "fetch_info": {name: [{"range": every, **url}]},
        }

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
