"""`python -m devtools.locks`: write the hashes of every pinned package into the locks (`make lock`).

A lock names every package with its version; the comment at its top is kept. Run this after a change of a version: pip
and uv refuse a file whose hash is not in the lock.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from devcluster.cache import ROOT

UV = "uv==0.13.9"
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "docs/requirements.lock",
    "images/cpu-test-base/requirements.txt",
    "images/lmdeploy/requirements.lock",
    "images/lmdeploy/requirements.whole.lock",
    "images/lmdeploy-cpu-test/requirements.txt",
    "images/model-tools/requirements.lock",
    "images/operator/requirements.build.lock",
    "images/vllm/requirements.whole.lock",
    "images/vllm-cpu-test/requirements.txt",
    "images/web/requirements.lock",
    "tests/engines/requirements/lmdeploy.txt",
    "tests/engines/requirements/vllm.txt",
)
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)( ; [^\\]*[^\\\s])?")
ANY_PYTHON = ("--universal", "--python-version=3.10")
"""For a lock whose packages depend on the Python that takes it."""


def header(text: str) -> str:
    """The comment at the top of a lock."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(f"{line}\n")
    return "".join(lines)


def pins(text: str) -> list[str]:
    """The packages of a lock, as name==version."""
    return [f"{found[1]}=={found[2]}" for line in text.splitlines() if (found := PIN.match(line))]


def requirements(text: str) -> list[str]:
    """The packages of a lock, each with what it says of the Python that takes it."""
    return [f"{found[1]}=={found[2]}{found[3] or ''}" for line in text.splitlines() if (found := PIN.match(line))]


def locked(uv: Path, text: str) -> str:
    """A lock with hashes.

    Raises:
        subprocess.CalledProcessError: a package is not in the index.
    """
    wanted = requirements(text)
    python = ANY_PYTHON if wanted != pins(text) else ("--python-version=3.11",)
    command = [
        str(uv), "pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate", "--generate-hashes",
        *python, "--no-build", "-",
    ]  # fmt: skip
    done = subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    hashes: str = done.stdout
    return header(text) + hashes


def main() -> None:
    """Rewrite every lock, or those that are named."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        subprocess.run([Path(folder) / "bin" / "pip", "install", "--quiet", UV], check=True)
        for name in sys.argv[1:] or LOCKS:
            path = ROOT / name
            path.write_text(locked(Path(folder) / "bin" / "uv", path.read_text()))
            print(name)


if __name__ == "__main__":
    main()
