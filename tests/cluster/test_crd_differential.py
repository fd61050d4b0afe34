"""Pydantic and the API server judge alike: thousands of specs, valid and broken, asked of both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from llm_operator.api import InvalidResource, LLMDeployment
from llm_operator.api.crd import custom_resource_definition
from tests.cluster.crd_client import CrdClient
from tests.support.strategies import STATUS_SCHEMA, mutated, resource, specs, statuses, valid_specs

pytestmark = pytest.mark.cluster

SPECS = 3000
STATUSES = 500
_THOROUGH = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
# Whole floats where a rule compares the number, and where none does.
FLOATS: list[dict[str, Any]] = [{"bits": 4.0}, {"groupSize": 128.0}, {"calibration": {"samples": 128.0}}]


@pytest.fixture(scope="module")
def client(control_plane: Any) -> Iterator[CrdClient]:
    with CrdClient(control_plane.kubeconfig) as crd_client:
        crd_client.install(custom_resource_definition())
        yield crd_client


def _covers(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _fields(body: dict[str, Any]) -> set[str]:
    """What the server's refusal names; its accessor of the scale subresource writes a dot in front."""
    causes = body.get("details", {}).get("causes", [])
    return {field.lstrip(".") for cause in causes if (field := cause.get("field", "")) not in ("", "<nil>")}


def _as_stored(value: Any) -> Any:
    """A value as the API server keeps it where no schema looks: whole numbers beyond 64 bits become floats there."""
    if isinstance(value, dict):
        return {key: _as_stored(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_as_stored(entry) for entry in value]
    beyond = isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63
    return float(value) if beyond else value


def _assert_names_one_field(body: dict[str, Any], error: InvalidResource) -> None:
    """Of the fields that the server names, ours names at least one, itself or what it is part of.

    Not all of them: pydantic judges no rule across fields above a member that is wrong already, and the server leaves
    its own rules unchecked above others.
    """
    theirs, ours = _fields(body), {field for field, _ in error.errors}
    named = any(_covers(field, other) for field in theirs for other in ours)
    assert named or not theirs, (theirs, error.errors, body["message"])


def quantized(recipe: dict[str, Any]) -> dict[str, Any]:
    """A spec with a recipe."""
    model = {"huggingFace": {"repository": "a/b"}}
    return {
        "model": model,
        "engine": {"type": "LMDeploy"},
        "cache": {"claimName": "models"},
        "weightQuantization": recipe,
    }


def _parsed(document: dict[str, Any]) -> LLMDeployment | InvalidResource:
    try:
        return LLMDeployment.parse(document)
    except InvalidResource as error:
        return error


def test_specs_are_judged_alike(client: CrdClient) -> None:
    verdicts: Counter[bool] = Counter()

    @settings(_THOROUGH, max_examples=SPECS)
    @given(specs)
    @example(quantized(FLOATS[0]))
    @example(quantized(FLOATS[1]))
    @example(quantized(FLOATS[2]))
    def judge(spec: Any) -> None:
        document = resource(spec)
        code, body = client.create(document, dry_run=True)
        ours = _parsed(document)
        if isinstance(ours, InvalidResource):
            assert code == 422, f"pydantic refuses what the API server takes: {ours}"
            _assert_names_one_field(body, ours)
        else:
            assert code == 201, f"the API server refuses what pydantic takes: {body['message']}"
            assert _as_stored(body["spec"]) == _as_stored(ours.spec.to_json())
        verdicts[code == 201] += 1

    started = time.monotonic()
    judge()
    seconds = time.monotonic() - started
    print(f"{sum(verdicts.values())} specs in {seconds:.1f} s: {dict(verdicts)}")
    assert sum(verdicts.values()) >= SPECS, "too few to mean anything"
    assert min(verdicts.values()) >= SPECS * 0.25, f"one-sided: {verdicts}"


def test_valid_specs_are_valid(client: CrdClient) -> None:
    """Others build on this strategy: it must give nothing that the API server refuses."""

    @settings(_THOROUGH, max_examples=200)
    @given(valid_specs)
    def judge(spec: Any) -> None:
        code, body = client.create(resource(spec), dry_run=True)
        assert code == 201, body["message"]

    judge()


def test_statuses_are_judged_alike(client: CrdClient) -> None:
    spec = {"model": {"huggingFace": {"repository": "a/b"}}, "engine": {"type": "VLLM"}}
    _, created = client.create(resource(spec, "status"), dry_run=False)
    verdicts: Counter[bool] = Counter()

    @settings(_THOROUGH, max_examples=STATUSES)
    @given(statuses | mutated(statuses, STATUS_SCHEMA) | mutated(mutated(statuses, STATUS_SCHEMA), STATUS_SCHEMA))
    def judge(status: Any) -> None:
        code, body = client.replace_status({**created, "status": status}, dry_run=True)
        ours = LLMDeployment.parse({**created, "status": status}).status
        assert (code == 200) == (ours is not None), (code, body.get("message"))
        if ours is not None:
            assert body["status"] == ours.to_json()
        verdicts[ours is not None] += 1

    judge()
    assert min(verdicts.values()) >= STATUSES * 0.15, f"one-sided: {verdicts}"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a", True),
        ("a-1", True),
        ("a" * 52, True),
        ("a" * 53, False),
        ("1a", False),
        ("a-", False),
        ("-a", False),
        ("a.b", False),
        ("A", False),
        ("a\n", False),
        ("a_b", False),
        ("\u00e9", False),
    ],
)
def test_names_are_judged_alike(client: CrdClient, name: str, taken: bool) -> None:
    document = resource({"model": {"huggingFace": {"repository": "a/b"}}, "engine": {"type": "VLLM"}}, name)
    code, body = client.create(document, dry_run=True)
    assert (code == 201) is taken, body
    if taken:
        assert LLMDeployment.parse(document).metadata.name == name
    else:
        assert "metadata.name" in body["message"]
        with pytest.raises(InvalidResource, match=r"metadata\.name"):
            LLMDeployment.parse(document)
