"""How fast a model is fetched: `modeltools fetch` beside huggingface_hub's snapshot_download, from the same server.

    python -m tests.bench.fetch        prints a table, exit code 1 where the tool has less than 0.9 of the client's rate

Each run is a process that starts from nothing and an empty folder; the two take turns, and medians are compared. The
tool's time includes the checks that snapshot_download does not make: the sha256 of every file, and the writing of all
data to the disk (fsync). Files lie in memory by default, so that the software is measured and not a disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPOSITORY = "acme/large"
GOAL = 0.9
BASELINE = (
    "import sys; from huggingface_hub import snapshot_download; snapshot_download(sys.argv[1], local_dir=sys.argv[2])"
)


def write_model(folder: Path, total: int, files: int) -> None:
    """Safetensors files of random bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    size = total // files
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    for number in range(files):
        with (folder / f"model-{number + 1:05}-of-{files:05}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            left = size
            while left:
                left -= file.write(os.urandom(min(left, 1 << 24)))


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The hub's stub in a process of its own; its URL."""
    command = [sys.executable, str(ROOT / "tests/faulty_hub.py"), "--root", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://{server.stdout.readline().split()[-1]}"
        finally:
            server.terminate()


def seconds(command: list[str], url: str) -> float:
    """How long a command takes."""
    settings = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    environment = os.environ | settings | {"PYTHONPATH": str(ROOT / "operator")}
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def tool(folder: Path, url: str) -> float:
    """One run of the tool."""
    command = [sys.executable, "-m", "llm_operator.modeltools", "fetch", "--root", str(folder), "--source"]
    return seconds([*command, "huggingFace", "--repository", REPOSITORY, "--result", str(folder / "result.json")], url)


def client(folder: Path, url: str) -> float:
    """One run of the client alone."""
    return seconds([sys.executable, "-c", BASELINE, REPOSITORY, str(folder)], url)


def measure(given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every run."""
    found: dict[str, list[float]] = {"client": [], "tool": []}
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        folder = Path(name)
        write_model(folder / "hub" / REPOSITORY, given.mebibytes << 20, given.files)
        with served(folder / "hub") as url:
            client(_empty(folder), url)  # the server computes its hashes once
            for number in range(given.repetitions):
                turns = [("client", client), ("tool", tool)]
                for label, run in turns if number % 2 == 0 else turns[::-1]:
                    found[label].append(run(_empty(folder), url))
    return found


def _empty(folder: Path) -> Path:
    target = folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    return target


def main() -> int:
    """Measure and print; 1 where the goal is missed."""
    line = argparse.ArgumentParser(prog="python -m tests.bench.fetch", allow_abbrev=False)
    line.add_argument("--mebibytes", type=int, default=2048, help="of the model (default 2048)")
    line.add_argument("--files", type=int, default=4, help="of its weights (default 4)")
    line.add_argument("--repetitions", type=int, default=5, help="of each (default 5)")
    line.add_argument("--directory", default="/dev/shm", help="where (default /dev/shm, in memory)")
    given = line.parse_args()
    found = measure(given)
    rates = {label: given.mebibytes / statistics.median(times) for label, times in found.items()}
    ratio = rates["tool"] / rates["client"]
    print(f"{given.mebibytes} MiB in {given.files} files, {given.repetitions} runs of each, {given.directory}\n")
    print("| | median, s | fastest, s | slowest, s | MiB/s |\n|---|---:|---:|---:|---:|")
    for label, text in (("client", "snapshot_download alone"), ("tool", "modeltools fetch")):
        times = found[label]
        middle = statistics.median(times)
        print(f"| {text} | {middle:.2f} | {min(times):.2f} | {max(times):.2f} | {rates[label]:.0f} |")
    print(
        f"\nRatio of the rates: {ratio:.2f} (goal {GOAL}). Python {platform.python_version()}, {os.cpu_count()} cores"
    )
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
