"""No task dies unseen, and none is started where nobody would see it."""

from __future__ import annotations

import ast
import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

import llm_operator
from llm_operator.kube import tasks
from llm_operator.telemetry import logs
from llm_operator.telemetry.metrics import TASK_FAILURES, Metrics

PACKAGE = Path(llm_operator.__file__).parent
STARTERS = {"create_task", "ensure_future", "Thread", "start_new_thread", "start_soon", "run_coroutine_threadsafe"}
ALONE = {"cli/threads.py", "modeltools/content.py", "modeltools/writeback.py"}
"""Threads of a container's own program, which its main thread joins."""


def failures(kind: str) -> float:
    return float(TASK_FAILURES.labels(task=kind)._value.get())


def test_tasks_and_threads_are_started_in_one_module_only() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in STARTERS:
                found.add((str(path.relative_to(PACKAGE)), name))
    files = {file for file, _ in found} - ALONE
    assert files == {"kube/tasks.py"}, found


async def test_a_failure_is_logged_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    before, told = failures("question"), list[BaseException]()

    async def work() -> None:
        raise ValueError("an HTML page")

    await tasks.once(work(), "question", "question-7", failed=told.append)
    assert failures("question") == before + 1
    assert [str(error) for error in told] == ["an HTML page"]
    assert [record.message for record in caplog.records] == ["task question-7 failed: ValueError: an HTML page"]
    assert 'llm_operator_task_failures_total{task="question"}' in generate_latest(Metrics().registry).decode()


@pytest.mark.parametrize("error", [None, RecursionError("deep"), RuntimeError("x")])
async def test_what_should_not_end_starts_again(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    monkeypatch.setattr(tasks, "RESTART_SECONDS", 0.001)
    started, before = asyncio.Event(), failures("loop")
    starts = 0

    async def work() -> None:
        nonlocal starts
        starts += 1
        if starts == 3:
            started.set()
            await asyncio.Event().wait()
        if error is not None:
            raise error

    task = tasks.forever(work, "loop")
    await asyncio.wait_for(started.wait(), 20)
    await tasks.stop(task)
    assert failures("loop") == before + 2
    assert task.cancelled()


async def test_a_cancelled_task_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    task = tasks.once(asyncio.sleep(60), "cancelled")
    await asyncio.sleep(0)
    await tasks.stop(task)
    assert failures("cancelled") == 0
    assert not caplog.records


def test_a_thread_that_fails_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise ValueError("broken")

    before = failures("election")
    with caplog.at_level(logging.ERROR):
        tasks.thread(work, "election").join()
    assert failures("election") == before + 1
    assert "task election failed: ValueError: broken" in caplog.text


@pytest.mark.parametrize("of", [None, ("team", "other")])
async def test_a_task_does_not_log_for_the_reconciliation_that_started_it(of: tuple[str, str] | None) -> None:
    seen: list[dict[str, Any] | None] = []

    async def work() -> None:
        seen.append(logs.context.get())

    token = logs.context.set({"namespace": "team", "name": "demo", "generation": 3, "reconcileID": "1"})
    try:
        await tasks.once(work(), "test", of=of)
    finally:
        logs.context.reset(token)
    assert seen == [{"namespace": "team", "name": "other"} if of is not None else None]
