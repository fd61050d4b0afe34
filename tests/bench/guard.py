"""What the filter before an engine's router costs: the same server with it and without it, turn by turn.

    python -m tests.bench.guard [--python PYTHON] [--rounds 7] [--requests 2000] [--streams 64]

Real uvicorn and FastAPI (tests/engines/workers/guarded_app.py); PYTHON is one that has them, by default the environment
of the engines' tests. It prints one JSON object: latency in milliseconds, chunks a second, medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from llm_operator.engines import guard
from tests.engines.environments import lite_interpreter

APP = Path(__file__).resolve().parents[1] / "engines" / "workers" / "guarded_app.py"
CHUNKS = 500
ROUND_SECONDS = 120


@contextmanager
def server(python: str, folder: Path, *, guarded: bool) -> Iterator[str]:
    """A running server's base URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, "-W", "ignore", str(APP), str(port)]
    if guarded:
        command = [*(word.replace(guard.FOLDER, str(folder)) for word in guard.guarded(())), *command]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = subprocess.Popen(command, env=environment)
    try:
        end = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def latency(session: aiohttp.ClientSession, url: str, requests: int) -> float:
    """Median of one request after the other, in milliseconds."""
    taken = []
    for _ in range(requests):
        start = time.perf_counter()
        async with session.get(f"{url}/v1/models") as answer:
            await answer.read()
            answer.raise_for_status()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


async def throughput(session: aiohttp.ClientSession, url: str, streams: int) -> float:
    """Chunks a second of that many streams at a time."""

    async def one() -> int:
        async with session.post(f"{url}/v1/stream", data=b"x" * CHUNKS) as answer:
            answer.raise_for_status()
            return (await answer.read()).count(b"data:")

    start = time.perf_counter()
    chunks = sum(await asyncio.gather(*(one() for _ in range(streams))))
    if chunks != streams * CHUNKS:
        raise RuntimeError(f"{chunks} chunks came, {streams * CHUNKS} were sent")
    return chunks / (time.perf_counter() - start)


async def measure(urls: dict[str, str], rounds: int, requests: int, streams: int) -> dict[str, dict[str, list[float]]]:
    """Both servers in each round, in alternating order."""
    taken: dict[str, dict[str, list[float]]] = {name: {"latency": [], "throughput": []} for name in urls}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(ROUND_SECONDS * rounds):
        for number in range(rounds + 1):
            for name in sorted(urls, reverse=number % 2 == 1):
                one = await latency(session, urls[name], requests), await throughput(session, urls[name], streams)
                if number:  # the first round warms up
                    taken[name]["latency"].append(one[0])
                    taken[name]["throughput"].append(one[1])
    return taken


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=64)
    given = parser.parse_args(words)
    python = given.python or str(lite_interpreter())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, guard.FILE).write_text(guard.source())
        with (
            server(python, Path(folder), guarded=True) as guarded,
            server(python, Path(folder), guarded=False) as bare,
        ):
            urls = {"guarded": guarded, "bare": bare}
            taken = asyncio.run(measure(urls, given.rounds, given.requests, given.streams))
    median = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in taken.items()}
    answer = {
        "rounds": given.rounds,
        "addedLatencyP50Milliseconds": round(median["guarded"]["latency"] - median["bare"]["latency"], 4),
        "throughputRatio": round(median["guarded"]["throughput"] / median["bare"]["throughput"], 4),
        "medians": median,
    }
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
