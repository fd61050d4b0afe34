import asyncio
import time

import pytest

from llm_operator.kube.keys import Key
from llm_operator.kube.workqueue import BACKOFF_LIMIT_SECONDS, LATER_TURN, WorkQueue, backoff
from llm_operator.telemetry.metrics import Metrics

A, B = ("team", "a"), ("team", "b")


@pytest.fixture
def queue() -> WorkQueue[Key]:
    return WorkQueue[Key]("test", Metrics(), time.monotonic)


async def test_a_key_waits_once(queue: WorkQueue[Key]) -> None:
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert [await queue.get(), await queue.get()] == [A, B]
    assert len(queue) == 0


async def test_a_key_added_while_in_work_comes_back_after_done(queue: WorkQueue[Key]) -> None:
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    assert len(queue) == 0, "two workers must not have the same key"
    queue.done(A)
    assert await queue.get() == A


async def test_the_watch_s_word_of_a_worker_s_own_write_is_no_news(queue: WorkQueue[Key]) -> None:
    queue.add(A)
    assert await queue.get() == A
    queue.add(A, ("Service", "7"))
    queue.wrote(A, ("Service", "7"))
    queue.done(A)
    assert queue.idle


@pytest.mark.parametrize("other", [None, ("Service", "8"), ("Deployment", "7")])
async def test_any_other_reason_brings_the_key_back(queue: WorkQueue[Key], other: tuple[str, str] | None) -> None:
    queue.add(A)
    assert await queue.get() == A
    queue.add(A, other)
    queue.add(A, ("Service", "7"))
    queue.wrote(A, ("Service", "7"))
    queue.done(A)
    assert await queue.get() == A
    queue.done(A)
    assert queue.idle, "the reasons are used up"


async def test_the_earliest_of_several_times_counts(queue: WorkQueue[Key]) -> None:
    queue.add_after(A, 60)
    queue.add_after(A, 0.01)
    queue.add_after(A, 30)
    assert await asyncio.wait_for(queue.get(), 2) == A


async def test_retry_backs_off_and_forget_resets(queue: WorkQueue[Key]) -> None:
    waits = [queue.retry(A) for _ in range(4)]
    assert waits == [0.05, 0.1, 0.2, 0.4]
    queue.forget(A)
    assert queue.retry(A) == 0.05
    assert queue.retry(A, at_least=7) == 7


def test_backoff_is_bounded() -> None:
    assert backoff(10_000) == BACKOFF_LIMIT_SECONDS


async def test_get_waits_for_an_addition(queue: WorkQueue[Key]) -> None:
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.add(A)
    assert await asyncio.wait_for(waiting, 1) == A


async def test_a_long_queue_is_progress_and_a_stuck_worker_is_not() -> None:
    now = 100.0
    queue = WorkQueue[Key]("aged", Metrics(), lambda: now)
    assert (queue.without_progress(), queue.oldest_in_work()) == (0, 0)
    queue.add(A)
    queue.add(("default", "b"))
    now = 130.0
    assert queue.without_progress() == 30
    await queue.get()
    assert queue.without_progress() == 0
    now = 190.0
    assert (queue.without_progress(), queue.oldest_in_work()) == (60, 60)
    queue.done(A)
    assert (queue.without_progress(), queue.oldest_in_work()) == (0, 0)
    await queue.get()
    now = 500.0
    assert queue.without_progress() == 0


def test_a_key_that_waits_long_behind_others_is_no_fault() -> None:
    """At 39 objects per second the last of 10,000 waits for four minutes: liveness must not count that."""
    now = 0.0
    queue = WorkQueue[Key]("long", Metrics(), lambda: now)

    async def drain() -> float:
        nonlocal now
        for number in range(100):
            queue.add(("default", f"llm-{number}"))
        worst = 0.0
        while len(queue):
            key = await queue.get()
            now += 10.0
            worst = max(worst, queue.without_progress(), queue.oldest_in_work())
            queue.done(key)
        return worst

    assert asyncio.run(drain()) == 10.0


async def test_news_goes_before_what_only_waits_for_its_turn(queue: WorkQueue[Key]) -> None:
    queue.add(A, news=False)
    queue.add(B)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == [B, A]
    assert len(queue) == 0


async def test_news_of_a_key_that_waits_brings_it_forward(queue: WorkQueue[Key]) -> None:
    for key in (A, B):
        queue.add(key, news=False)
    queue.add(B)
    queue.add(B, news=False)
    assert [await queue.get(), await queue.get()] == [B, A]
    assert queue.without_progress() == 0.0


async def test_however_much_is_new_what_waits_has_its_turn(queue: WorkQueue[Key]) -> None:
    queue.add(A, news=False)
    for number in range(2 * LATER_TURN):
        queue.add(("team", f"new-{number}"))
    given = [await queue.get() for _ in range(LATER_TURN)]
    assert given.index(A) == LATER_TURN - 1
