"""The processes that read from the hub for the operator: two at a time, kept while they are asked, killed if late."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import cast

from pydantic import ValidationError
from pydantic_core import to_json

import llm_operator
from llm_operator.facts import Fact, Pending
from llm_operator.foreign import UnreadableError, read_json
from llm_operator.kube.hub import host, unreachable
from llm_operator.kube.hub_answer import ANSWER_BYTES, ANSWERS, READY
from llm_operator.reconcile.model_facts import ModelFacts

log = logging.getLogger("llm_operator.models")

MOST = 2
"""Processes at a time: each may take about 170 MiB (hub_child.MEMORY_BYTES), and the container has 512."""
FETCH_TIMEOUT_SECONDS = 20.0
START_SECONDS = 60.0
"""Importing takes half a second, many times that on a busy node."""
QUESTIONS = 100
"""After this many a process ends: whatever it may have gathered goes with it."""
IDLE_SECONDS = 30.0


class _EndedError(Exception):
    """The process ended, or said what it never says."""


class HubReaders:
    """Reads facts in separate processes."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MOST)
        self._later = asyncio.Semaphore(MOST - 1)
        self._idle: list[_Reader] = []

    async def facts(self, repository: str, revision: str | None, *, first: bool = True) -> Fact[ModelFacts]:
        """What the hub says of a model. Never raises: the fact says what went wrong.

        Args:
            repository: such as org/model.
            revision: a branch, tag or commit; None: the default branch.
            first: the first question about a model: it waits for no other's repeated ones.
        """
        async with contextlib.AsyncExitStack() as stack:
            for turn in (self._turns,) if first else (self._later, self._turns):
                await stack.enter_async_context(turn)
            return await self._facts(repository, revision)

    async def close(self) -> None:
        """End the processes that wait for questions."""
        while self._idle:
            await self._idle.pop().end()

    async def _facts(self, repository: str, revision: str | None) -> Fact[ModelFacts]:
        reader: _Reader | None = None
        try:
            while self._idle and reader is None:
                waiting = self._idle.pop()
                reader = waiting if waiting.reusable else None
            reader = reader or await _Reader.start()
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                fact = await reader.ask(repository, revision)
        except TimeoutError:
            return unreachable(f"no answer within {FETCH_TIMEOUT_SECONDS:.0f} s")
        except (_EndedError, OSError) as error:
            log.warning("the process that reads %s from the hub ended: %s", repository, error)
            text = f"what the hub {host()} sent of {repository} could not be read: {error}; it is read again later"
            return Pending("HubError", text, failed=True)
        else:
            if reader.reusable:
                self._keep(reader)
                reader = None
            return fact
        finally:
            if reader is not None:
                await reader.end()

    def _keep(self, reader: _Reader) -> None:
        self._idle.append(reader)
        asked = reader.asked

        def unused() -> None:
            if reader in self._idle and reader.asked == asked:
                self._idle.remove(reader)
                reader.kill()

        asyncio.get_running_loop().call_later(IDLE_SECONDS, unused)


class _Reader:
    """One process (hub_child.py)."""

    def __init__(self, process: Process) -> None:
        self._process = process
        # Pipes, as `start` was called with.
        self._questions = cast("asyncio.StreamWriter", process.stdin)
        self._answers = cast("asyncio.StreamReader", process.stdout)
        self.asked = 0
        self._last = False

    @classmethod
    async def start(cls) -> _Reader:
        """Raises _EndedError, OSError, TimeoutError."""
        package = str(Path(llm_operator.__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        # One arena: each thread's own would count against the limit of the address space.
        environment = os.environ | {"PYTHONPATH": path, "MALLOC_ARENA_MAX": "1"}
        words = (sys.executable, "-P", "-m", "llm_operator.kube.hub_child")
        process = await asyncio.create_subprocess_exec(
            *words, stdin=PIPE, stdout=PIPE, env=environment, limit=ANSWER_BYTES, start_new_session=True
        )
        reader = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                if await reader._line() != READY:
                    raise _EndedError("it did not start")
        except BaseException:
            await reader.end()
            raise
        return reader

    @property
    def reusable(self) -> bool:
        """Whether it may be asked again."""
        return not self._last and self.asked < QUESTIONS and self._process.returncode is None

    async def ask(self, repository: str, revision: str | None) -> Fact[ModelFacts]:
        """Raises _EndedError, OSError."""
        self.asked += 1
        self._questions.write(to_json({"repository": repository, "revision": revision}) + b"\n")
        await self._questions.drain()
        try:
            answer = ANSWERS.validate_python(read_json(await self._line(), ANSWER_BYTES))
        except (UnreadableError, ValidationError):
            raise _EndedError("its reader gave no answer") from None
        self._last = answer.last
        if answer.fact is None:
            raise _EndedError("its reader gave no answer")
        return answer.fact

    async def _line(self) -> bytes:
        try:
            line = await self._answers.readline()
        except ValueError:
            raise _EndedError(f"its reader said more than {ANSWER_BYTES:,} bytes") from None
        if not line.endswith(b"\n"):
            code = await self._process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise _EndedError(f"its reader ended ({how})")
        return line

    def kill(self) -> None:
        """Without waiting."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        await self._process.wait()
