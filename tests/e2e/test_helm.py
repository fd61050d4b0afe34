"""The chart on a real node: installed, upgraded and uninstalled under an engine that serves all the while."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.session import CHART, OPERATOR_NAMESPACE, RELEASE, CommandError, Session
from tests.e2e.space import leave
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SPACE = "chart"
NAME = "tiny-lmdeploy"
SENTENCE = "tiny test model"


def items(session: Session, kinds: str, *where: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(session.kubectl("get", kinds, *where, "-o", "json"))["items"]
    return found


def names(session: Session, kinds: str, *where: str) -> set[str]:
    return {f"{item['kind']}/{item['metadata']['name']}" for item in items(session, kinds, *where)}


def engine_pods(session: Session) -> dict[str, int]:
    """Uid and restarts of the engine's pods."""
    return {
        item["metadata"]["uid"]: item["status"]["containerStatuses"][0]["restartCount"]
        for item in items(session, "pods", "-n", SPACE, "-l", f"llm-operator.dev/deployment={NAME}")
    }


def operator_pods(session: Session) -> set[str]:
    selector = "app.kubernetes.io/name=llm-operator"
    return names(session, "pods", "-n", OPERATOR_NAMESPACE, "-l", selector)


def upgrade(session: Session, *settings: str) -> None:
    given = [*session.image_values(), *settings]
    session.run(
        "helm", "upgrade", "--install", RELEASE, str(CHART), "--namespace", OPERATOR_NAMESPACE, "--create-namespace",
        "--wait", "--timeout", "180s", *(part for value in given for part in ("--set", value)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def serving(session: Session) -> Iterator[Session]:
    """The chart installed and one engine that serves; afterwards the chart is there as other tests want it."""
    upgrade(session)
    session.kubectl("create", "namespace", SPACE)
    try:
        session.provide_tiny_model(SPACE)
        session.apply(session.example(NAME), SPACE)
        session.kubectl("-n", SPACE, "wait", "--for=condition=Ready", "--timeout=240s", f"llmdep/{NAME}")
        yield session
    finally:
        leave(session, SPACE)
        session.install_chart()


def test_the_operator_runs_restricted(serving: Session) -> None:
    serving.kubectl("label", "namespace", OPERATOR_NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    try:
        before = operator_pods(serving)
        serving.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "restart", f"deployment/{RELEASE}")
        serving.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
        eventually(lambda: not before & operator_pods(serving), why="the old pod is gone")
    finally:
        serving.kubectl("label", "namespace", OPERATOR_NAMESPACE, "pod-security.kubernetes.io/enforce-")


def test_metrics_come_through_the_service(serving: Session) -> None:
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/services/{RELEASE}-metrics:metrics/proxy/metrics"
    assert "controller_runtime_reconcile_total" in serving.kubectl("get", "--raw", path)


def test_helm_test_finds_the_leader(serving: Session) -> None:
    said = serving.run("helm", "test", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--timeout", "120s")
    assert re.search(r"Phase:\s+Succeeded", said), said


def test_an_upgrade_replaces_the_operator_and_no_engine(serving: Session) -> None:
    engines, operators = engine_pods(serving), operator_pods(serving)
    upgrade(serving, "replicas=2", "operator.logLevel=DEBUG")
    eventually(
        lambda: len(pods := operator_pods(serving)) == 2 and not operators & pods,
        why="two pods, both of the new template",
    )
    assert f"PodDisruptionBudget/{RELEASE}" in names(serving, "pdb", "-n", OPERATOR_NAMESPACE)
    # The new one works: it sees a change of the spec, which touches no pod.
    serving.kubectl("-n", SPACE, "patch", f"llmdep/{NAME}", "--type=merge", "-p", '{"spec": {"planPolicy": "Warn"}}')
    eventually(lambda: observed(serving), seconds=90, why="the new operator leads")
    assert engine_pods(serving) == engines
    assert SENTENCE in serving.chat(SPACE, NAME, NAME, "Who are you?")


def observed(session: Session) -> bool:
    body = json.loads(session.kubectl("-n", SPACE, "get", f"llmdep/{NAME}", "-o", "json"))
    return bool(body["status"]["observedGeneration"] == body["metadata"]["generation"])


def test_a_bad_value_changes_nothing(serving: Session) -> None:
    before = items(serving, "deployments", "-n", OPERATOR_NAMESPACE)[0]["metadata"]["generation"]
    with pytest.raises(CommandError, match="'/operator/workers': minimum: got 0, want 1"):
        upgrade(serving, "operator.workers=0")
    assert items(serving, "deployments", "-n", OPERATOR_NAMESPACE)[0]["metadata"]["generation"] == before


def test_uninstalling_strands_nothing(serving: Session) -> None:
    engines = engine_pods(serving)
    serving.run("helm", "uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "120s")
    eventually(lambda: not operator_pods(serving), why="the operator's pods are gone")

    kinds = "deploy,rs,pod,svc,sa,role,rolebinding,lease,secret,configmap,pdb"
    eventually(
        lambda: (
            names(serving, kinds, "-n", OPERATOR_NAMESPACE) <= {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}
        ),
        why=f"{names(serving, kinds, '-n', OPERATOR_NAMESPACE)} are left",
    )
    cluster_wide = names(serving, "clusterrole,clusterrolebinding", "-l", f"app.kubernetes.io/instance={RELEASE}")
    assert cluster_wide == set()

    # What serves goes on serving, and can be deleted without the operator.
    assert engine_pods(serving) == engines
    assert SENTENCE in serving.chat(SPACE, NAME, NAME, "Who are you?")
    (body,) = items(serving, "llmdep", "-n", SPACE)
    assert "finalizers" not in body["metadata"]
    serving.kubectl("-n", SPACE, "delete", f"llmdep/{NAME}", "--timeout=30s")
    selector = ("-n", SPACE, "-l", f"llm-operator.dev/deployment={NAME}")
    eventually(lambda: not names(serving, "deploy,rs,svc,pod", *selector), seconds=180, why="the children are gone")


def test_it_can_be_installed_again(serving: Session) -> None:
    upgrade(serving)
    serving.apply(serving.example(NAME), SPACE)
    serving.kubectl("-n", SPACE, "wait", "--for=condition=Ready", "--timeout=240s", f"llmdep/{NAME}")
