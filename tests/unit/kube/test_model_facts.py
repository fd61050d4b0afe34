"""Model facts beside the event loop: asked once, told to whom they concern, asked again where the hub was away."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.kube import model_facts
from llm_operator.kube.hub import unreachable
from llm_operator.kube.model_facts import Ask, ModelFactsCache
from llm_operator.models import parse_config_text
from llm_operator.pipeline.result import Result
from llm_operator.reconcile.inspected_facts import known_facts
from llm_operator.reconcile.model_facts import ModelFacts, described, facts_of
from tests.support.objects import llm

CONFIG = Path(__file__).parents[1] / "models" / "configs" / "llama-3.1-8b.json"


def packed(text: str) -> str:
    """As the tools report it."""
    return base64.b64encode(gzip.compress(text.encode())).decode()


def asking(answer: Callable[[], Fact[ModelFacts]]) -> Ask:
    """A hub that answers what a test says."""

    async def ask(repository: str, revision: str | None, *, first: bool) -> Fact[ModelFacts]:
        return answer()

    return ask


SPEC = LLMDeployment.parse(llm("a")).spec
KEY = ("tiny/model", "")
KNOWN = Known(ModelFacts(parse_config_text(CONFIG.read_bytes())))


def pending(fact: Fact[ModelFacts]) -> tuple[str, bool]:
    """Reason of a fact that is not known yet, and whether an attempt has failed."""
    assert isinstance(fact, Pending)
    return fact.reason, fact.failed


async def test_what_was_refused_once_is_asked_again_and_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Fact[ModelFacts]] = [Unknowable("ModelNotFound", "none"), Unknowable("ModelNotFound", "none"), KNOWN]
    ask = asking(lambda: answers.pop(0))
    monkeypatch.setattr(model_facts, "UNKNOWABLE_SECONDS", 0.05)
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    cache = ModelFactsCache(told.put_nowait, ask=ask)
    cache.want(KEY)
    async with asyncio.timeout(5):
        assert await told.get() == KEY
        assert cache.known(SPEC) == Unknowable("ModelNotFound", "none")
        # The same answer again is no news.
        assert await told.get() == KEY
    assert isinstance(cache.known(SPEC), Known)
    assert told.empty()


async def test_a_branch_that_moves_is_noticed_and_a_hub_that_is_away_forgets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = Known(ModelFacts(KNOWN.value.shape, "b" * 40))
    answers: list[Fact[ModelFacts]] = [KNOWN, unreachable("away"), moved]
    ask = asking(lambda: answers.pop(0) if answers else moved)
    monkeypatch.setattr(model_facts, "KNOWN_SECONDS", 0.05)
    monkeypatch.setattr(model_facts, "FIRST_RETRY_SECONDS", 0.05)
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    cache = ModelFactsCache(told.put_nowait, ask=ask)
    cache.want(KEY)
    async with asyncio.timeout(5):
        assert await told.get() == KEY
        assert await told.get() == KEY
    fact = cache.known(SPEC)
    assert isinstance(fact, Known)
    assert (fact.value, fact.at > 0, answers) == (moved.value, True, [])


async def test_a_model_that_nobody_wants_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def answer() -> Fact[ModelFacts]:
        nonlocal asked
        asked += 1
        return KNOWN

    monkeypatch.setattr(model_facts, "KNOWN_SECONDS", 0.01)
    cache = ModelFactsCache(lambda _: None, lambda _: False, asking(answer))
    cache.want(KEY)
    await asyncio.sleep(0.3)
    assert asked == 1
    assert pending(cache.known(SPEC)) == ("ReadingModel", False)
    await asyncio.sleep(0.1)


async def test_a_hub_that_was_away_is_asked_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Fact[ModelFacts]] = [unreachable("away"), KNOWN]
    ask = asking(lambda: answers.pop(0))
    monkeypatch.setattr(model_facts, "FIRST_RETRY_SECONDS", 0.05)
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    cache = ModelFactsCache(told.put_nowait, ask=ask)
    assert pending(cache.known(SPEC)) == ("ReadingModel", False)
    cache.want(KEY)
    async with asyncio.timeout(5):
        assert await told.get() == KEY
        assert pending(cache.known(SPEC)) == ("HubUnreachable", True)
        assert await told.get() == KEY
    assert isinstance(cache.known(SPEC), Known)
    await asyncio.sleep(0.2)
    assert (told.empty(), answers) == (True, [])


def test_what_is_on_a_volume_is_not_asked_for() -> None:
    spec = LLMDeployment.parse(llm("a", model={"persistentVolumeClaim": {"claimName": "models"}})).spec
    fact = ModelFactsCache(lambda _: None).known(spec)
    assert isinstance(fact, Unknowable)
    assert fact.reason == "ModelNotInspected"
    assert "persistentVolumeClaim" in fact.message


@pytest.mark.parametrize(
    ("config", "stored", "reason", "said"),
    [
        ("{", None, "ModelUnsupported", "org/model: "),
        ('{"architectures": ["MambaForCausalLM"]}', None, "ModelUnknown", "config.json of org/model: "),
        (
            '{"architectures": ["MambaForCausalLM"]}',
            5_700_000_000,
            "ModelUnknown",
            "config.json of org/model: architecture MambaForCausalLM is unknown: its KV cache cannot be computed, so no"
            " plan is made, and nothing is blocked; its weight files hold 5.31 GiB",
        ),
        (CONFIG.read_text(), 5_700_000_000, "WeightsContradictConfig", "org/model: "),
        (CONFIG.read_text(), 16_060_522_496, "", ""),
        (CONFIG.read_text(), None, "", ""),
    ],
)
def test_a_hub_and_the_files_of_a_volume_are_judged_alike(
    config: str, stored: int | None, reason: str, said: str
) -> None:
    hub = facts_of(lambda: (described(config), stored), "org/model")
    assert isinstance(hub, Known) != bool(reason)
    if isinstance(hub, Unknowable):
        assert hub.reason == reason
        assert hub.message.startswith(said)
    spec = LLMDeployment.parse(llm("a", model={"persistentVolumeClaim": {"claimName": "models"}})).spec
    unknown = ModelFactsCache(lambda _: None).known(spec)
    files = known_facts(spec, unknown, ("Done", Result(ok=True, packed_config=packed(config), weight_bytes=stored)))
    assert type(files) is type(hub)
    if isinstance(files, Unknowable) and isinstance(hub, Unknowable):
        assert files.reason == hub.reason
        assert "org/model" not in files.message
