"""The only place that starts tasks and threads: none dies unseen.

A bare `asyncio.create_task` keeps an exception to itself: the inventory of GPUs once stopped for ever at one unreadable
answer, while every health check said ok. Ruff's TID251 and a test forbid it outside of this module.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from llm_operator.telemetry import logs
from llm_operator.telemetry.metrics import TASK_FAILURES

log = logging.getLogger("llm_operator.tasks")

RESTART_SECONDS = 1.0
RESTART_LIMIT_SECONDS = 60.0
HEALTHY_SECONDS = 60.0
"""A task that ran for this long before it failed is restarted after the shortest time again."""

_running: set[asyncio.Task[Any]] = set()
"""The event loop itself holds only weak references to its tasks."""


def once(
    work: Coroutine[Any, Any, None],
    kind: str,
    name: str = "",
    failed: Callable[[BaseException], None] | None = None,
    *,
    of: tuple[str, str] | None = None,
) -> asyncio.Task[None]:
    """Start one piece of work beside the caller; its failure is logged and counted.

    Args:
        work: what to do.
        kind: what the metric counts its failure as; one of a few words.
        name: of the task, for logs; the kind if empty.
        failed: called with the error, so that no one waits for an answer that never comes.
        of: namespace and name of the only object that it works for: its log lines name that object.
    """
    return _start(_guarded(work, kind, name or kind, failed), name or kind, of)


def forever(
    work: Callable[[], Awaitable[None]], kind: str, name: str = "", *, of: tuple[str, str] | None = None
) -> asyncio.Task[None]:
    """Start work that should not end. If it ends, or fails, that is logged and counted, and it starts again.

    Args:
        work: makes what to do, once per start.
        kind: what the metric counts its failures as; one of a few words.
        name: of the task, for logs; the kind if empty.
        of: namespace and name of the only object that it works for: its log lines name that object.
    """
    return _start(_again_and_again(work, kind, name or kind), name or kind, of)


def watched(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Start work whose result or error the caller awaits: it must, by `await` or `ended`."""
    return _start(work, name)


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Started(Protocol):
    """A thread as its starter needs it."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or so many seconds."""

    def is_alive(self) -> bool:
        """Whether it runs."""


def thread(target: Callable[[], None], name: str) -> Started:
    """Start a thread that does not keep the process alive; an error that it does not catch is logged and counted."""

    def guarded() -> None:
        try:
            target()
        except Exception as error:
            failure(name, name, error)

    started = threading.Thread(target=guarded, name=name, daemon=True)
    started.start()
    return started


def failure(kind: str, name: str, error: BaseException | None) -> None:
    """Log and count a task that failed; without an error, one that ended although it should not."""
    TASK_FAILURES.labels(task=kind).inc()
    if error is None:
        log.error("task %s ended", name)
    else:
        log.error("task %s failed: %s: %s", name, type(error).__name__, error, exc_info=error)


def _start(work: Coroutine[Any, Any, Any], name: str, of: tuple[str, str] | None = None) -> asyncio.Task[Any]:
    # A task outlives the reconciliation that starts it, and may work for other objects as well.
    context = contextvars.copy_context()
    context.run(logs.context.set, {"namespace": of[0], "name": of[1]} if of is not None else None)
    task = asyncio.create_task(work, name=name, context=context)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def _guarded(
    work: Coroutine[Any, Any, None], kind: str, name: str, failed: Callable[[BaseException], None] | None
) -> None:
    try:
        await work
    except Exception as error:
        failure(kind, name, error)
        if failed is not None:
            failed(error)


async def _again_and_again(work: Callable[[], Awaitable[None]], kind: str, name: str) -> None:
    loop = asyncio.get_running_loop()
    wait = RESTART_SECONDS
    while True:
        started = loop.time()
        try:
            await work()
        except Exception as error:
            failure(kind, name, error)
        else:
            failure(kind, name, None)
        if loop.time() - started >= HEALTHY_SECONDS:
            wait = RESTART_SECONDS
        await asyncio.sleep(wait)
        wait = min(2 * wait, RESTART_LIMIT_SECONDS)
