"""Reading from a hostile hub: in a process of its own, bounded, killed, replaced, and kept while it is useful."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from llm_operator.api.resource import LLMDeployment
from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.kube import hub_readers
from llm_operator.kube.hub_answer import ANSWERS, Answer
from llm_operator.kube.hub_child import told
from llm_operator.kube.hub_files import fetch_facts
from llm_operator.kube.hub_readers import HubReaders
from llm_operator.kube.model_facts import ModelFactsCache
from llm_operator.models import ModelConfigError, ModelShape, parse_config_text
from llm_operator.reconcile.model_facts import ModelFacts, facts_of
from tests.hostile_hub import COMMIT, ELSEWHERE, hostile_hub
from tests.support.objects import llm

MODELS = Path(__file__).parents[1] / "models" / "configs"
UNMOVED_MIB = 12
"""Less than the smallest attack would cost the process."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with hostile_hub() as endpoint:
        yield endpoint


@pytest.fixture
async def readers(hub: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubReaders]:
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setattr(constants, "ENDPOINT", hub)
    readers = HubReaders()
    yield readers
    await readers.close()


def peak_mib() -> int:
    """Most resident memory since reset_peak()."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def reset_peak() -> int:
    """Forget the peak; what it is now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def address_space(process: int) -> int:
    """Of a process, in kB."""
    found = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1])


def children() -> list[int]:
    """Processes that read from a hub for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, status = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:
            continue
        if b"llm_operator.kube.hub_child" in words and int(status.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(int(folder.name))
    return sorted(found)


REFUSED = {
    **dict.fromkeys(("large", "dense", "nested", "braces", "digits", "exponent", "binary", "empty"), "config.json"),
    **dict.fromkeys(("html", "name", "surrogate"), ""),
    **dict.fromkeys(("endless", "gzip"), "config.json has more than 4,194,304 bytes"),
    "index": "",
    "longindex": "model.safetensors.index.json has more than 33,554,432 bytes",
    "longheader": "header",
    "headerless": "header",
    "offsets": "impossible sizes",
    "cut": "ends after 100 bytes",
}  # fmt: skip
AWAY = {
    "sha": "names a commit that is not 40 hexadecimal digits",
    "listing": "is not a JSON object",
    "redirect": "it redirected more than 5 times",
    "refusal": "403",
}


async def test_a_hostile_repository_is_a_condition_of_its_own(readers: HubReaders) -> None:
    for kind, said in REFUSED.items():
        before = reset_peak()
        fact = await readers.facts(f"evil/{kind}", None)
        assert isinstance(fact, Unknowable), (kind, fact)
        assert fact.reason in ("ModelUnsupported", "ModelUnknown"), kind
        assert said in fact.message
        assert len(fact.message) <= 1_000
        assert peak_mib() - before < UNMOVED_MIB, kind


async def test_a_hub_that_answers_nonsense_is_asked_again(readers: HubReaders) -> None:
    for kind, said in AWAY.items():
        fact = await readers.facts(f"evil/{kind}", None)
        assert isinstance(fact, Pending), (kind, fact)
        assert (fact.reason in ("HubUnreachable", "HubError"), fact.failed) == (True, True)
        assert said in fact.message


@pytest.mark.parametrize("kind", ELSEWHERE)
async def test_a_hub_cannot_send_the_operator_into_its_machine(readers: HubReaders, kind: str) -> None:
    fact = await readers.facts(f"evil/{kind}", None)
    assert isinstance(fact, Pending), fact
    assert (fact.reason, fact.failed) == ("HubUnreachable", True)
    assert "which is not followed" in fact.message


async def test_what_is_honest_or_harmless_is_read(readers: HubReaders) -> None:
    # 29 MB of index for two layers: read, and found to contradict.
    fact = await readers.facts("evil/honest", None)
    assert isinstance(fact, Unknowable)
    assert fact.reason == "WeightsContradictConfig"
    # A header of 4 MiB that names no tensor tells no size.
    for kind in ("good", "siblings", "header"):
        fact = await readers.facts(f"evil/{kind}", None)
        assert isinstance(fact, Known), (kind, fact)
        assert (fact.value.shape.layers, fact.value.revision) == (2, COMMIT)


async def test_one_process_answers_many_questions(readers: HubReaders) -> None:
    await readers.facts("evil/good", None)
    (child,) = children()
    for _ in range(5):
        assert isinstance(await readers.facts("evil/good", None), Known)
        assert children() == [child]
    await readers.close()
    assert children() == []


async def test_it_ends_after_so_many_questions_and_when_nobody_asks(
    readers: HubReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_readers, "QUESTIONS", 2)
    await readers.facts("evil/good", None)
    (child,) = children()
    await readers.facts("evil/good", None)
    assert children() == []
    monkeypatch.setattr(hub_readers, "IDLE_SECONDS", 0.05)
    await readers.facts("evil/good", None)
    assert child not in children()
    async with asyncio.timeout(30):
        while children():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.05)


async def test_one_that_grew_is_not_asked_again(readers: HubReaders) -> None:
    await readers.facts("evil/good", None)
    (child,) = children()
    fact = await readers.facts("evil/index", None)
    assert isinstance(fact, Unknowable)
    assert isinstance(await readers.facts("evil/good", None), Known)
    # Whether its memory went back is the allocator's affair: it is another one, or as small as before.
    (now,) = children()
    assert now != child or address_space(now) < 120_000


async def test_a_child_that_is_killed_is_told_and_replaced(readers: HubReaders) -> None:
    asked = asyncio.ensure_future(readers.facts("evil/slow", None))
    async with asyncio.timeout(60):
        while not children():  # noqa: ASYNC110 - it starts when it starts
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    fact = await asked
    assert isinstance(fact, Pending)
    assert (fact.reason, fact.failed) == ("HubError", True)
    assert "evil/slow could not be read" in fact.message
    assert isinstance(await readers.facts("evil/good", None), Known)
    # Also one that waits for a question.
    (idle,) = children()
    os.kill(idle, signal.SIGKILL)
    facts = [await readers.facts("evil/good", None) for _ in range(2)]
    assert isinstance(facts[-1], Known)


async def test_one_that_is_late_is_killed(readers: HubReaders, monkeypatch: pytest.MonkeyPatch) -> None:
    await readers.facts("evil/good", None)
    monkeypatch.setattr(hub_readers, "FETCH_TIMEOUT_SECONDS", 0.3)
    told = asyncio.Event()
    cache = ModelFactsCache(lambda _: told.set(), ask=readers.facts)
    spec = LLMDeployment.parse(llm("a", model={"huggingFace": {"repository": "evil/slow"}})).spec
    fact = cache.known(spec)
    assert isinstance(fact, Pending)
    assert (fact.reason, fact.failed) == ("ReadingModel", False)
    cache.want(("evil/slow", ""))
    await told.wait()
    fact = cache.known(spec)
    assert isinstance(fact, Pending)
    assert (fact.reason, fact.failed) == ("HubUnreachable", True)
    assert "no answer within" in fact.message
    assert children() == []


async def test_two_at_a_time_and_who_asks_first_waits_for_no_repetition(
    readers: HubReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_readers, "FETCH_TIMEOUT_SECONDS", 60.0)
    again = [asyncio.ensure_future(readers.facts("evil/slow", None, first=False)) for _ in range(8)]
    try:
        for _ in range(3):
            assert isinstance(await readers.facts("evil/good", None), Known)
            assert len(children()) <= hub_readers.MOST
        assert not any(one.done() for one in again)
    finally:
        for one in again:
            one.cancel()
        await asyncio.gather(*again, return_exceptions=True)
    assert len(children()) <= 1


async def test_the_loop_goes_on_while_a_child_works(readers: HubReaders) -> None:
    await readers.facts("evil/good", None)
    asked = asyncio.ensure_future(readers.facts("evil/dense", None))
    worst = 0.0
    while not asked.done():
        begun = time.thread_time()
        await asyncio.sleep(0.001)
        worst = max(worst, time.thread_time() - begun)
    assert isinstance(asked.result(), Unknowable)
    # Time of this thread alone: what the operator itself does for an answer, whatever else the machine does.
    assert worst < 0.05


def shapes() -> list[ModelShape]:
    found = []
    for path in sorted(MODELS.glob("*.json")):
        try:
            found.append(parse_config_text(path.read_bytes()))
        except ModelConfigError:
            continue
    return found


def test_every_model_survives_the_way_between_the_processes() -> None:
    facts: list[Fact[ModelFacts]] = [Known(ModelFacts(shape, COMMIT)) for shape in shapes()]
    assert len(facts) > 20
    for fact in [*facts, Pending("A", "b", failed=True), Pending("A", "b"), Unknowable("C", "d")]:
        line = told(fact, last=False)
        answer: Answer = ANSWERS.validate_json(line)
        assert answer.fact == fact
        assert len(line) < 64 << 10


def test_an_answer_is_short_whatever_the_model_is() -> None:
    many: Any = facts_of(lambda: (shapes()[0], None), "org/model")
    assert isinstance(many, Known)
    shape = many.value.shape
    huge = Known(
        ModelFacts(
            ModelShape(**{name: getattr(shape, name) for name in shape.__slots__} | {"tensors": shape.tensors * 9_999})
        )
    )
    answer = ANSWERS.validate_json(told(huge, last=True))
    assert answer.last
    assert isinstance(answer.fact, Unknowable)
    assert len(told(Unknowable("A", "b" * 9_999_999), last=False)) < 2_000


def test_the_command_line_is_bounded_by_the_same_limits(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub)
    for kind in ("large", "endless", "gzip", "redirect", "longheader", "sha"):
        before = reset_peak()
        fact = fetch_facts(f"evil/{kind}", None)
        assert not isinstance(fact, Known)
        assert peak_mib() - before < 80
