"""The chat page's children on a real API server: made, kept, told apart, removed; the engine never touched."""

from __future__ import annotations

import pytest

from devcluster.client import ApiError
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space, Spaces, operator_fixture, space_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
KINDS = ("Deployment", "Service")
SPACES = Spaces("page", 7)
operator = operator_fixture(SPACES)
space = space_fixture(SPACES)


def found(space: Space, kind: str, name: str) -> JSON:
    body = space.get(kind, name)
    assert body is not None, f"{kind} {name}"
    return body


def serves(space: Space, name: str) -> bool:
    return space.condition(name, "WebUIReady")[0] == "True"


def test_the_page_comes_and_goes_with_its_field_and_the_engine_stays(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("demo"))
    eventually(lambda: space.is_ready("demo"))
    engine = found(space, "Deployment", "demo")
    assert space.condition("demo", "WebUIReady") == ("", "", "")
    space.patch("demo", {"spec": {"webUI": {}}})
    eventually(lambda: serves(space, "demo"), why=lambda: str(space.condition("demo", "WebUIReady")))
    body = found(space, KIND, "demo")
    assert body["status"]["webUI"] == {"endpoint": f"http://demo-chat.{space.name}.svc:80/"}
    for kind in KINDS:
        (owner,) = found(space, kind, "demo-chat")["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (body["metadata"]["uid"], True)
    space.patch("demo", {"spec": {"webUI": None}})
    eventually(lambda: all(space.get(kind, "demo-chat") is None for kind in KINDS), why="the page is removed")
    eventually(lambda: "webUI" not in found(space, KIND, "demo")["status"])
    after = found(space, "Deployment", "demo")
    assert (after["metadata"]["uid"], after["metadata"]["generation"]) == (
        engine["metadata"]["uid"],
        engine["metadata"]["generation"],
    )
    assert space.is_ready("demo")


def test_an_edited_or_deleted_page_is_restored(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("heals", webUI={}))
    eventually(lambda: serves(space, "heals"))
    space.patch("heals-chat", {"spec": {"replicas": 3}}, "Deployment")
    eventually(lambda: found(space, "Deployment", "heals-chat")["spec"]["replicas"] == 1)
    uid = found(space, "Service", "heals-chat")["metadata"]["uid"]
    space.delete("Service", "heals-chat")
    eventually(lambda: (new := space.get("Service", "heals-chat")) and new["metadata"]["uid"] != uid)


def test_the_page_is_scaled_to_zero(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("zero", webUI={}))
    eventually(lambda: serves(space, "zero"))
    space.patch("zero", {"spec": {"replicas": 0}})
    eventually(lambda: found(space, "Deployment", "zero-chat")["spec"]["replicas"] == 0)
    eventually(lambda: space.condition("zero", "WebUIReady")[:2] == ("False", "Stopped"))


def test_quiet_with_a_page(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("quiet", webUI={}))
    eventually(lambda: serves(space, "quiet") and space.is_ready("quiet"))
    space.wait_quiet(operator)
    before = operator.writes()
    space.patch("quiet", {"metadata": {"annotations": {"someone": "else"}}})
    operator.wait_idle()
    assert operator.writes() == before


def test_the_strictest_pod_security_admits_the_page(operator: OperatorUnderTest, space: Space) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{space.name}"
    space.plane.request("PATCH", path, {"metadata": {"labels": labels}}, "application/merge-patch+json")
    space.create(llm("strict", webUI={}))
    eventually(lambda: serves(space, "strict"), why=lambda: str(space.condition("strict", "WebUIReady")))
    hostile = {"metadata": {"name": "hostile"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        space.create(hostile, "Pod")
