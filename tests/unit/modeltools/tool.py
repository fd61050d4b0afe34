"""Running the tools as what they are, processes; and small models for the hub to serve."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faulty_hub import Fault, FaultyHub

OPERATOR = Path(__file__).parents[3] / "operator"
REPOSITORY = "acme/tiny"
COPIES = tuple(f"acme/copy-{number}" for number in range(5))
"""Other names of the same model, so that several can fail in several ways at a time."""
LEFT_OUT = (".gitattributes", "pytorch_model.bin", "consolidated.safetensors")
"""Files of the model that no engine loads beside the others."""
MIB = 1 << 20
PIECE = 256 * 1024
"""What reaches the disk at a time (huggingface.PIECE_BYTES)."""
STAGES = ("Resolving", "Waiting", "Fetching", "Verifying")
STALL_SECONDS = "30"


def write_safetensors(path: Path, size: int, seed: int = 1) -> None:
    """A valid file with one tensor of so many random bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size))


def write_model(folder: Path, shards: int = 2, size: int = MIB) -> None:
    """A model of some shards, with what else is found in repositories."""
    names = [f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)]
    for seed, name in enumerate(names):
        write_safetensors(folder / name, size, seed)
    index = {"metadata": {"total_size": shards * size}, "weight_map": {f"w{name}": name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "templates").mkdir()
    (folder / "templates" / "chat.jinja").write_text("{{ messages }}")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the same once more")


@dataclasses.dataclass(frozen=True)
class Done:
    """A process that has ended."""

    code: int
    result: Mapping[str, Any] | None
    progress: list[Mapping[str, Any]]
    errors: str

    @property
    def reason(self) -> str:
        """Why it failed."""
        assert self.result is not None, self.errors
        assert self.result["ok"] is False
        return str(self.result["reason"])


@dataclasses.dataclass
class Running:
    """A process at work."""

    process: subprocess.Popen[str]
    result_file: Path
    output_file: Path

    def end(self, number: signal.Signals | None = None, seconds: float = 30) -> Done:
        """Wait for the end, after a signal where one is given."""
        if number is not None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=seconds)
        progress = self.progress()
        result = None
        if self.result_file.exists() and (content := self.result_file.read_bytes()):
            assert len(content) <= 4096
            result = json.loads(content)
        return Done(self.process.returncode, result, progress, errors)

    def told_bytes(self) -> int:
        """What it has said so far of the bytes that are there; 0 while it says nothing, or while it writes."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads(self.result_file.read_bytes()).get("bytes", 0))
        return 0

    def progress(self) -> list[Mapping[str, Any]]:
        """The lines of progress that are whole."""
        lines = self.output_file.read_text().splitlines(keepends=True)
        return [json.loads(line)["progress"] for line in lines if line.endswith("\n")]

    def children(self) -> list[int]:
        """Its children's process ids."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in text.split()]


@dataclasses.dataclass
class Tool:
    """The command line, a volume and a hub."""

    hub: FaultyHub
    folder: Path
    python: tuple[str, ...] = ()
    """Options of the interpreter."""

    @property
    def cache(self) -> Path:
        """The cache volume's mount."""
        return self.folder / "cache"

    @contextlib.contextmanager
    def running(self, *arguments: str, **environment: str) -> Iterator[Running]:
        """Start a command; it is killed where the test ends first."""
        result = self.folder / f"result-{time.monotonic_ns()}.json"
        output = result.with_suffix(".out")
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(OPERATOR),
            "HOME": str(self.folder),
            "HF_ENDPOINT": self.hub.url,
            "MODELSCOPE_ENDPOINT": self.hub.url,
            "NO_PROXY": "127.0.0.1",
        } | environment
        command = [sys.executable, *self.python, "-m", "llm_operator.modeltools", *arguments, "--result", str(result)]
        with (
            output.open("w") as stdout,
            subprocess.Popen(
                command, env=variables, text=True, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE
            ) as process,
        ):
            try:
                yield Running(process, result, output)
            finally:
                process.kill()

    def run(self, *arguments: str, **environment: str) -> Done:
        """Run a command to its end."""
        with self.running(*arguments, **environment) as started:
            return started.end()

    def fetch(self, *more: str, source: str = "huggingFace", repository: str = REPOSITORY, **environment: str) -> Done:
        """Run `fetch` to its end."""
        return self.run(*self.arguments(*more, source=source, repository=repository), **environment)

    def fetch_each(
        self, *repositories: str, more: Sequence[str] = (), source: str = "huggingFace", **environment: str
    ) -> list[Done]:
        """Run `fetch` for several models side by side."""
        with contextlib.ExitStack() as stack:
            lines = [self.arguments(*more, source=source, repository=repository) for repository in repositories]
            started = [stack.enter_context(self.running(*line, **environment)) for line in lines]
            return [each.end() for each in started]

    def fetching(
        self, *more: str, source: str = "huggingFace", **environment: str
    ) -> contextlib.AbstractContextManager[Running]:
        """Start `fetch`."""
        return self.running(*self.arguments(*more, source=source), **environment)

    def arguments(self, *more: str, source: str = "huggingFace", repository: str = REPOSITORY) -> list[str]:
        """The command line of `fetch`, trying again soon unless told otherwise."""
        line = ["fetch", "--source", source, "--repository", repository]
        line += [] if "--flat" in more else ["--root", str(self.cache)]
        defaults = {"--stall-seconds": STALL_SECONDS, "--backoff-seconds": "0.1", "--attempts": "3"}
        line += [part for name, value in defaults.items() if name not in more for part in (name, value)]
        return [*line, *more]

    def fail(self, *faults: Fault) -> None:
        """From now on the hub does this."""
        self.hub.faults = list(faults)

    def directory(self, kind: str = "hf", repository: str = REPOSITORY) -> Path:
        """Where the model belongs."""
        name = f"{kind}--{repository.replace('/', '--')}"
        return self.cache / "models" / name / self.hub.commit(repository)

    def sent_once(self, repository: str = REPOSITORY) -> None:
        """Assert that every byte of every file that was sent was sent once."""
        sizes = {name: path.stat().st_size for name, path in self.hub.files(repository).items()}
        sent = {name: self.hub.sent[f"{repository}/{name}"] for name in sizes}
        assert {name: number for name, number in sent.items() if number and number != sizes[name]} == {}

    def stands_at(self, name: str, size: int, folder: Path | None = None) -> bool:
        """Whether so many bytes of a file are there, and all of the others."""
        partial = folder or self.directory().with_name(f"{self.directory().name}.partial")
        files = self.hub.files(REPOSITORY)
        others = set(files) - {name, *LEFT_OUT}
        beginning = partial / ".llm-operator-transfer" / f"{self.hub.hashes(files[name])[0]}.incomplete"
        if not beginning.exists():
            beginning = partial / f"{name}.incomplete"
        whole = all((partial / other).exists() for other in others)
        return whole and beginning.exists() and beginning.stat().st_size == size


def gone(process: int) -> bool:
    """Whether there is no such process, or only its remains."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
