"""New pods on request: the annotation of an object reaches the engine and the page on a real API server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_operator.api import KIND
from llm_operator.api.names import ANNOTATION_RESTARTED
from tests.cluster.helpers import JSON, Space, Spaces, operator_fixture, space_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
COMMAND = Path(sys.executable).with_name("kubectl-llm")
SPACES = Spaces("restart", 12)
operator = operator_fixture(SPACES)
space = space_fixture(SPACES)


def template(space: Space, name: str) -> JSON:
    live = space.get("Deployment", name)
    assert live is not None
    found: JSON = live["spec"]["template"]
    return found


def restarted_at(space: Space, name: str) -> str | None:
    found: str | None = (template(space, name)["metadata"].get("annotations") or {}).get(ANNOTATION_RESTARTED)
    return found


def annotate(space: Space, name: str, value: str | None) -> None:
    space.patch(name, {"metadata": {"annotations": {ANNOTATION_RESTARTED: value}}})


def pods(space: Space) -> set[str]:
    items = space.plane.request("GET", space.path("Pod"))["items"]
    return {item["metadata"]["uid"] for item in items if "deletionTimestamp" not in item["metadata"]}


def serves(space: Space, name: str) -> bool:
    return space.is_ready(name) and space.condition(name, "WebUIReady")[0] in ("True", "")


def test_the_command_replaces_the_pods_of_engine_and_page(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("qwen", replicas=2, webUI={}))
    eventually(lambda: serves(space, "qwen"))
    before, old = template(space, "qwen"), pods(space)
    assert restarted_at(space, "qwen") is None
    done = subprocess.run(
        [str(COMMAND), "restart", "qwen", "-n", space.name],
        check=False,
        env={**os.environ, "KUBECONFIG": str(space.plane.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    eventually(lambda: restarted_at(space, "qwen") is not None, why="the engine's template has the annotation")
    eventually(lambda: len(pods(space)) == 3 and not pods(space) & old, why="three new pods")
    eventually(lambda: serves(space, "qwen"))
    asked = (space.get(KIND, "qwen") or {})["metadata"]["annotations"][ANNOTATION_RESTARTED]
    assert restarted_at(space, "qwen") == restarted_at(space, "qwen-chat") == asked
    # Nothing else of the template has changed.
    after = template(space, "qwen")
    del after["metadata"]["annotations"][ANNOTATION_RESTARTED]
    assert after == before


def test_a_request_that_is_taken_away_replaces_nothing(operator: OperatorUnderTest, space: Space) -> None:
    body = llm("gitops", webUI={})
    space.create(
        {**body, "metadata": {"name": "gitops", "annotations": {ANNOTATION_RESTARTED: "2026-01-01T00:00:00Z"}}}
    )
    eventually(lambda: serves(space, "gitops"))
    space.wait_quiet(operator)
    old, writes = pods(space), operator.writes()
    annotate(space, "gitops", None)
    operator.wait_idle()
    assert (pods(space), operator.writes()) == (old, writes)
    assert restarted_at(space, "gitops") == restarted_at(space, "gitops-chat") == "2026-01-01T00:00:00Z"
    # An earlier time is another request all the same.
    annotate(space, "gitops", "2025-12-31T23:00:00+01:00")
    eventually(lambda: restarted_at(space, "gitops") == "2025-12-31T23:00:00+01:00")
    eventually(lambda: restarted_at(space, "gitops-chat") == "2025-12-31T23:00:00+01:00")


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "",
        "2026-13-01T00:00:00Z",
        "2026-02-31T00:00:00Z",
        "2026-01-01T00:00:00",
        "$(HOSTNAME)",
        "\n",
        "9" * 200_000,
    ],
    ids=["word", "empty", "month", "day", "zone", "variable", "newline", "giant"],
)
def test_what_is_not_a_time_is_refused_and_the_pods_stay(operator: OperatorUnderTest, space: Space, value: str) -> None:
    space.create(llm("demo"))
    eventually(lambda: space.is_ready("demo"))
    old = pods(space)
    annotate(space, "demo", value)
    eventually(lambda: space.condition("demo", "Stalled")[:2] == ("True", "InvalidRestart"))
    message = space.condition("demo", "Stalled")[2]
    assert message.startswith(f"metadata.annotations[{ANNOTATION_RESTARTED}]: ")
    assert len(message) < 400
    assert pods(space) == old
    assert restarted_at(space, "demo") is None
    annotate(space, "demo", None)
    eventually(lambda: space.is_ready("demo") and space.condition("demo", "Stalled")[0] == "False")
    assert pods(space) == old
