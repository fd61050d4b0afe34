"""A stub of a Hugging Face hub on which every repository is an attack, named by it: evil/nested, evil/endless, ...

Not a hub: it answers what huggingface_hub 2.4.0 asks for (HF_ENDPOINT) with what a stranger may publish, or a broken
mirror may say. It runs by itself, so that what it sends is not memory of the process that is tested:
`python hostile_hub.py` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 256,
    "max_position_embeddings": 256, "torch_dtype": "bfloat16",
}  # fmt: skip
GOOD = json.dumps(LLAMA).encode()
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def bomb(size: int) -> bytes:
    """JSON of so many bytes that takes some 25 times as much as objects."""
    return b'{"architectures":[' + b"{}," * (size // 3) + b"{}]}"


def header(content: bytes) -> bytes:
    """The beginning of a safetensors file."""
    return len(content).to_bytes(8, "little") + content


CONFIGS: dict[str, Callable[[], bytes]] = {
    "large": lambda: bomb(28 << 20),
    "dense": lambda: bomb((4 << 20) - 1024),
    "nested": lambda: b'{"a":' + b"[" * 500_000,
    "braces": lambda: b'{"a":' * 100_000,
    "digits": lambda: b'{"architectures":["LlamaForCausalLM"],"hidden_size":' + b"9" * 5_000 + b"}",
    "exponent": lambda: json.dumps(LLAMA).encode().replace(b'"hidden_size": 64', b'"hidden_size": 1e999999'),
    "binary": lambda: bytes(range(256)) * 64,
    "empty": lambda: b"",
    "name": lambda: json.dumps(LLAMA | {"architectures": ["A" * (3 << 20)]}).encode(),
    "surrogate": lambda: GOOD.replace(b"LlamaForCausalLM", b"\\ud800"),
    "html": lambda: b"<!doctype html><html>not here</html>",
}
FILES: dict[tuple[str, str], Callable[[], bytes]] = {
    ("index", INDEX): lambda: b'{"weight_map":{"a":' + bomb(24 << 20) + b"}}",
    ("longindex", INDEX): lambda: bomb(40 << 20),
    ("honest", INDEX): lambda: (
        b'{"metadata": {"total_size": 4000000}, "weight_map": {'
        + b",".join(
            b'"model.layers.%d.mlp.experts.%d.down_proj.weight_scale_inv": "model-00001-of-00060.safetensors"'
            % (number // 4000, number % 4000)
            for number in range(300_000)
        )
        + b"}}"
    ),
    ("header", SINGLE): lambda: header(bomb(4 << 20)),
    ("headerless", SINGLE): lambda: b"",
    ("longheader", SINGLE): lambda: (1 << 62).to_bytes(8, "little") + b"{",
    ("offsets", SINGLE): lambda: header(b'{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,"x"]}}'),
    ("cut", SINGLE): lambda: header(b"{" * 500)[:100],
}  # fmt: skip


def listed(name: object, size: object = 1, oid: object = "a" * 40) -> dict[str, object]:
    """An entry of a tree."""
    return {"type": "file", "path": name, "size": size, "oid": oid}


TREES: dict[str, list[object]] = {
    "twice": [listed("config.json"), listed("a.safetensors"), listed("a.safetensors", oid="b" * 40)],
    "folder": [listed("config.json"), listed("a"), listed("a/b.safetensors"), listed("c.safetensors")],
    "many": [{"type": "directory", "path": f"d{number}", "oid": "a" * 40} for number in range(1000)],
    "climbing": [listed("config.json"), listed("../../hf--victim--model/x.safetensors")],
    "absolute": [listed("config.json"), listed("/etc/x.safetensors")],
    "marker": [listed("config.json"), listed("a.safetensors", size=-1)],
    "oid": [listed("config.json", oid="../../x"), listed("a.safetensors")],
    "names": [listed(None), listed("a.safetensors")],
    "sizes": [listed("config.json", size="1" * 5000), listed("a.safetensors")],
}
"""Without an entry, and for other kinds: a page of nothing."""


ELSEWHERE = {
    "file": "file:///etc/passwd",
    "ftp": "ftp://hub.example/config.json",
    "script": "javascript:alert(1)",
    "metadata": "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "decimal": "http://2852039166/latest/",
    "hexadecimal": "http://0xa9fea9fe/latest/",
    "mapped": "http://[::ffff:169.254.169.254]/latest/",
    "link": "http://[fe80::1]/",
    "cloud": "http://100.100.100.200/latest/",
    "slashes": "//169.254.169.254/latest/",
    "login": "http://hub.example@169.254.169.254/",
    "invalid": "http://[::1",
}
"""Where a repository of this kind redirects, for each of its files."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            self._answer(self.path.strip("/").split("?")[0].split("/"))

    def _answer(self, parts: list[str]) -> None:
        if parts[0] == "again":
            self._redirect()
        elif parts[:2] == ["api", "models"] and "tree" in parts:
            self._tree(parts[3])
        elif parts[:2] == ["api", "models"]:
            self._listing(parts[3])
        else:
            self._file(parts[1], "/".join(parts[4:]))

    def _listing(self, kind: str) -> None:
        told: object = {"sha": COMMIT, "siblings": [{"rfilename": name} for k, name in FILES if k == kind]}
        if kind == "sha":
            told = {"sha": "../../victim/" + "b" * 40, "siblings": []}
        elif kind == "listing":
            told = [[[]]]
        elif kind == "siblings":
            told = {"sha": COMMIT, "siblings": [1, None, {"rfilename": [1]}, {"rfilename": INDEX * 9}]}
        elif kind in ("listed", "refusal"):
            self._endless(200 if kind == "listed" else 403)
            return
        self._send(json.dumps(told).encode())

    def _tree(self, kind: str) -> None:
        """What the tools ask for: pages of files and folders."""
        if kind == "listed":
            self._endless(200)
            return
        page = TREES.get(kind, [listed("config.json"), listed("a.safetensors")] if kind in ELSEWHERE else [])
        more = kind in ("pages", "many")
        self.send_response(200)
        if more:
            self.send_header("Link", f'<http://{self.headers["Host"]}{self.path}>; rel="next"')
        content = json.dumps(page).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, kind: str, name: str) -> None:
        if kind == "endless" or (kind == "headerless" and name == SINGLE):
            self._endless(200)
        elif kind == "redirect":
            self._redirect()
        elif kind in ELSEWHERE:
            self._redirect(ELSEWHERE[kind])
        elif kind == "slow":
            self._slow()
        elif kind == "gzip":
            self._gzip()
        elif (kind, name) in FILES:
            self._send(FILES[kind, name]())
        else:
            self._send(CONFIGS.get(kind, lambda: GOOD)())

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _endless(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        self.end_headers()
        while True:
            self.wfile.write(b" " * 65536)

    def _redirect(self, to: str = "/again") -> None:
        """To itself or elsewhere, with a body that does not end."""
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Connection", "close")
        self.end_headers()
        while True:
            self.wfile.write(b" " * 65536)

    def _slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while True:
            self.wfile.write(b" ")
            time.sleep(0.05)

    def _gzip(self) -> None:
        """A gigabyte in a megabyte, whatever the client accepts."""
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(1024):
            self.wfile.write(packer.compress(bytes(1 << 20)))


class Server(ThreadingHTTPServer):
    """Without a word about clients that go away."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def hostile_hub() -> Iterator[str]:
    """The endpoint of one that runs beside this process."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
