"""Which releases the operator serves with."""

from typing import Any

import pytest

from llm_operator.engines import RefusedError, RenderRequest, check, known_versions, render
from llm_operator.manifests.common import JSON
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from tests.support.build import plan, resource, serving

INSECURE = ("0.9", "0.9.2.post1", "0.10.0", "0.10.1")
MODEL: JSON = {"persistentVolumeClaim": {"claimName": "models"}, "trustRemoteCode": True}


def lmdeploy(version: str | None, **engine: Any) -> Any:
    named = {} if version is None else {"version": version}
    engine = {"type": "LMDeploy", **named, **engine}
    return resource(engine=engine, model=MODEL, cache={"claimName": "models"}).spec


def reasons(spec: Any) -> list[str]:
    return [refusal.reason for refusal in check(spec)]


@pytest.mark.parametrize("backend", [None, "PyTorch", "TurboMind"])
@pytest.mark.parametrize("version", [*known_versions("LMDeploy"), "0.9", "0.10", None])
def test_lmdeploy_serves_since_the_release_that_closed_its_internal_port(version: str | None, backend: str) -> None:
    spec = lmdeploy(version, **({"backend": backend} if backend else {}))
    assert reasons(spec) == (["InsecureEngineVersion"] if version in INSECURE else [])


def test_a_workspace_of_turbomind_is_still_served_by_the_last_release_that_reads_it() -> None:
    assert reasons(lmdeploy("0.9.2.post1", conversion="TurboMind")) == []
    assert "InsecureEngineVersion" not in reasons(lmdeploy("0.10.1", conversion="TurboMind"))
    assert reasons(lmdeploy("0.10.1", conversion="TurboMind")) == ["ConversionUnsupported"]


def test_a_conversion_that_would_fall_back_to_pytorch_is_refused() -> None:
    spec = lmdeploy("0.9.2.post1", conversion="TurboMind")
    with pytest.raises(RefusedError, match=r"set version to 0\.10\.2 or newer"):
        render(RenderRequest("demo", "team", spec, tensor=1, architecture="NoSuchForCausalLM"))


@pytest.mark.parametrize(("version", "nearest"), [("0.8.0", "0.10.2"), ("0.10.9999", ""), ("0.19.0", "0.18.0")])
def test_no_refusal_proposes_a_release_that_is_refused(version: str, nearest: str) -> None:
    messages = [refusal.message for refusal in check(lmdeploy(version))]
    assert bool(messages) is bool(nearest)
    assert all(f"nearest known {nearest};" in message for message in messages)
    assert not any(f" {insecure}," in message for message in messages for insecure in INSECURE)


def test_an_engine_of_such_a_release_that_runs_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    of = resource(engine={"type": "LMDeploy", "version": "0.10.1"}, model=MODEL)
    with monkeypatch.context() as older:
        older.setattr("llm_operator.engines.lmdeploy.command.serves", lambda version: True)
        before = serving(of)
    kept = decide(of, before, plan(of))
    assert (kept.refusals, kept.applies, kept.deletes) == ((), (), ())
    changed = resource(engine={"type": "LMDeploy", "version": "0.10.1"}, model=MODEL, contextLength=4096)
    refused: Decision = decide(changed, before, plan(changed))
    assert [refusal.reason for refusal in refused.refusals] == ["InsecureEngineVersion"]
    assert (refused.applies, refused.deletes) == ((), ())
