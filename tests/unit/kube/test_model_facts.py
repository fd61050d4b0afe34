"""Model facts beside the event loop: asked once, told to whom they concern, asked again where the hub was away."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
from pathlib import Path

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.kube import model_facts
from llm_operator.kube.hub import ModelFacts, facts_of
from llm_operator.kube.inspected_facts import known_facts
from llm_operator.kube.model_facts import ModelFactsCache
from llm_operator.models import parse_config_text
from llm_operator.reconcile.jobs import Result
from tests.cluster.helpers import llm

CONFIG = Path(__file__).parents[1] / "models" / "configs" / "llama-3.1-8b.json"


def packed(text: str) -> str:
    """As the tools report it."""
    return base64.b64encode(gzip.compress(text.encode())).decode()


SPEC = LLMDeployment.parse(llm("a")).spec
KEY = ("tiny/model", "")


async def test_a_hub_that_was_away_is_asked_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        ModelFacts(reason="HubUnreachable", message="away"),
        ModelFacts(shape=parse_config_text(CONFIG.read_bytes())),
    ]
    monkeypatch.setattr(model_facts, "fetch_facts", lambda *_: answers.pop(0))
    monkeypatch.setattr(model_facts, "RETRY_SECONDS", 0.05)
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    cache = ModelFactsCache(told.put_nowait)
    assert cache.of(SPEC).pending
    async with asyncio.timeout(5):
        assert await told.get() == KEY
        assert cache.of(SPEC).reason == "HubUnreachable"
        assert await told.get() == KEY
        assert cache.of(SPEC).pending
        assert await told.get() == KEY
    assert cache.of(SPEC).shape is not None
    await asyncio.sleep(0.2)
    assert (told.empty(), answers) == (True, [])


async def test_a_hub_that_does_not_answer_holds_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hangs(*_: object) -> ModelFacts:
        assert answered.wait(20)
        return ModelFacts()

    monkeypatch.setattr(model_facts, "fetch_facts", hangs)
    monkeypatch.setattr(model_facts, "FETCH_TIMEOUT_SECONDS", 0.05)
    told = asyncio.Event()
    cache = ModelFactsCache(lambda _: told.set())
    assert cache.of(SPEC).pending
    try:
        await told.wait()
        assert cache.of(SPEC).reason == "HubUnreachable"
    finally:
        answered.set()


def test_what_is_on_a_volume_is_not_asked_for() -> None:
    spec = LLMDeployment.parse(llm("a", model={"persistentVolumeClaim": {"claimName": "models"}})).spec
    assert ModelFactsCache(lambda _: None).of(spec).reason == "ModelNotInspected"


@pytest.mark.parametrize(
    ("config", "stored", "reason", "said"),
    [
        ("{", None, "ModelUnsupported", "org/model: "),
        ('{"architectures": ["MambaForCausalLM"]}', None, "ModelUnknown", "config.json of org/model: "),
        (CONFIG.read_text(), 5_700_000_000, "WeightsContradictConfig", "org/model: "),
        (CONFIG.read_text(), 16_060_522_496, "", ""),
        (CONFIG.read_text(), None, "", ""),
    ],
)
def test_a_hub_and_the_files_of_a_volume_are_judged_alike(
    config: str, stored: int | None, reason: str, said: str
) -> None:
    hub = facts_of(lambda: (parse_config_text(config), stored), "org/model")
    assert hub.reason == reason
    assert hub.message.startswith(said)
    assert (hub.shape is None) == bool(reason)
    spec = LLMDeployment.parse(llm("a", model={"persistentVolumeClaim": {"claimName": "models"}})).spec
    unknown = ModelFactsCache(lambda _: None).of(spec)
    files = known_facts(spec, unknown, ("Done", Result(ok=True, packed_config=packed(config), weight_bytes=stored)))
    assert (files.reason, files.shape) == (hub.reason, hub.shape)
    assert "org/model" not in files.message
