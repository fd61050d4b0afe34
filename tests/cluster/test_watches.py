"""Whatever one request is answered with, the process goes on watching: a lying proxy before the real API server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from devcluster.control_plane import ControlPlane
from llm_operator.manifests.kinds import WATCHED
from tests.cluster.helpers import Space
from tests.lying_proxy import LyingProxy, is_watch
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
KINDS = len(WATCHED)
numbers = itertools.count()
Answer = Callable[[web.Request], web.Response]


def status(code: int, reason: str, **headers: str) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"}
    return lambda _: web.json_response(body, status=code, headers=headers)


def event(code: int, message: str) -> Answer:
    line = {"type": "ERROR", "object": {"kind": "Status", "code": code, "message": message}}
    return lambda _: web.Response(text=json.dumps(line) + "\n", content_type="application/json")


def text(body: str, kind: str = "application/json", code: int = 200) -> Answer:
    return lambda _: web.Response(text=body, content_type=kind, status=code)


HTML = "<html><body>Please log in</body></html>"
# tests/unit/kube/test_api_session.py has many more, for one request each.
LIES: dict[str, dict[str, Answer]] = {
    "watch": {
        "401 while a token is rotated": status(401, "Unauthorized"),
        "404 while the CRD is made again": status(404, "NotFound"),
        "410 as an event": event(410, "too old resource version"),
        "500 as an event": event(500, "etcdserver: no leader"),
        "a proxy's page": text(HTML, "text/html"),
        "an object without metadata": text('{"type": "MODIFIED", "object": {"metadata": null}}\n'),
        "half an event": text('{"type": "ADDED", "object": {"meta'),
    },
    "list": {
        "401 while a token is rotated": status(401, "Unauthorized"),
        "410 as a status": status(410, "Expired"),
        "503": status(503, "ServiceUnavailable", **{"Retry-After": "1"}),
        "a page that calls itself JSON": text(HTML),
    },
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("lied-to")) as started:
        started.install_crd(CRD)
        yield started


@pytest.fixture(scope="module")
def proxy(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingProxy]:
    with LyingProxy(plane, tmp_path_factory.mktemp("proxy")) as started:
        yield started


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator") / "log"


@pytest.fixture(scope="module")
def operator(proxy: LyingProxy, log: Path) -> Iterator[OperatorUnderTest]:
    # No relist comes to help.
    arguments = ("--no-leader-elect", "--no-gpu-inventory", "--relist-seconds", "86400")
    with OperatorUnderTest(proxy.kubeconfig, arguments=arguments, log=log) as process:
        process.wait_ready()
        yield process
        assert process.process is not None
        assert process.process.poll() is None, log.read_text()[-4000:]
    said = log.read_text()
    assert "Traceback" not in said, said[-4000:]
    assert all(json.loads(line)["msg"] for line in said.splitlines())


@pytest.fixture
def space(plane: ControlPlane, proxy: LyingProxy) -> Iterator[Space]:
    yield Space(plane, f"watches-{next(numbers)}")
    proxy.truth()


def sees_changes(space: Space, operator: OperatorUnderTest, seconds: float = 20) -> None:
    """A new object is served, and the deletion of a child is seen."""
    name = f"seen-{next(numbers)}"
    space.create(llm(name))
    live = eventually(lambda: space.get("Deployment", name), seconds, why="the watch of LLMDeployments")
    assert live is not None
    uid = live["metadata"]["uid"]
    space.delete("Deployment", name)
    eventually(
        lambda: (new := space.get("Deployment", name)) is not None and new["metadata"]["uid"] != uid,
        seconds,
        why="the watch of Deployments",
    )
    assert operator.get("/healthz") == (200, "ok")


@pytest.mark.parametrize("of", ["watch", "list"])
def test_no_lie_ends_a_watch(operator: OperatorUnderTest, proxy: LyingProxy, space: Space, of: str) -> None:
    for name, lie in LIES[of].items():
        if of == "watch":
            told = proxy.lie(matches=is_watch, answer=lie, times=KINDS)
        else:
            # An event that has expired makes kopf list again.
            proxy.lie(matches=is_watch, answer=event(410, "too old resource version"), times=KINDS)
            told = proxy.lie(matches=lambda request: "limit" in request.query, answer=lie, times=KINDS)
        proxy.cut_watches()
        eventually(lambda told=told: told.told == KINDS, why=f"the lie is told: {name}")  # type: ignore[misc]
        eventually(lambda: proxy.watches == KINDS, why=f"all watches are open after: {name}")
        proxy.truth()
    sees_changes(space, operator)


def test_one_watch_that_is_refused_with_401_once(operator: OperatorUnderTest, proxy: LyingProxy, space: Space) -> None:
    """All six watches once ended at this."""
    told = proxy.lie(matches=is_watch, answer=status(401, "Unauthorized"), times=1)
    proxy.cut_watches()
    eventually(lambda: told.told == 1)
    eventually(lambda: proxy.watches == KINDS, why="all watches are open")
    sees_changes(space, operator)


def test_dropped_events_are_made_good_and_kill_nobody(plane: ControlPlane, proxy: LyingProxy, tmp_path: Path) -> None:
    space = Space(plane, f"watches-{next(numbers)}")
    arguments = ("--no-leader-elect", "--no-gpu-inventory", "--relist-seconds", "6")
    with OperatorUnderTest(proxy.kubeconfig, space.name, arguments=arguments, log=tmp_path / "log") as process:
        process.wait_ready()
        proxy.lie(matches=is_watch, lines=lambda line: None if b'"BOOKMARK"' not in line else line)
        proxy.cut_watches()
        for number in range(3):
            space.create(llm(f"dropped-{number}"))
            eventually(lambda number=number: space.get("Deployment", f"dropped-{number}"), why="by the relist")  # type: ignore[misc]
            assert process.get("/healthz") == (200, "ok")
        proxy.truth()
        eventually(lambda: "relist found" in (tmp_path / "log").read_text())
        sees_changes(space, process)


def test_a_crd_that_is_made_again_is_watched_again(plane: ControlPlane, proxy: LyingProxy, tmp_path: Path) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/llmdeployments.llm-operator.dev"
    space = Space(plane, f"watches-{next(numbers)}")
    with OperatorUnderTest(proxy.kubeconfig, space.name, log=tmp_path / "log") as process:
        process.wait_ready()
        plane.request("DELETE", path)
        eventually(lambda: plane.find(path) is None, 30)
        eventually(lambda: "llmdeployments was interrupted" in (tmp_path / "log").read_text(), 30)
        assert process.get("/healthz") == (200, "ok")
        plane.install_crd(CRD)
        sees_changes(space, process, 60)
        process.wait_ready()
    assert "Traceback" not in (tmp_path / "log").read_text()
