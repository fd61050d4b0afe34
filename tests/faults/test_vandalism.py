"""Children edited, deleted and stripped, foreign objects in the way, namespaces, rights and the CRD taken in flight.

The oracle is a fresh object with the same spec, once the vandals have gone and what is not the operator's is removed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest

from devcluster.client import ApiError
from llm_operator.api import GROUP, KIND, PLURAL
from llm_operator.manifests.revision import REVISION, number_and_digest
from tests.cluster.helpers import Space
from tests.faults.conftest import Effort, Result
from tests.faults.scenarios import claim
from tests.faults.specs import valid
from tests.faults.twins import answered, comparable, twin_state, whole
from tests.faults.world import CRD, Case, World
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

JSON = dict[str, Any]
NAMES = tuple(f"llm-{number}" for number in range(4))
SHORT_ACTS = 7
MOST_HELD = 5.0
"""Requests a second in a namespace in which nothing can be done."""
HELD = {"metadata": {"finalizers": ["example.com/held"]}}
FREE = {"metadata": {"finalizers": None}}
Vandal = Callable[[Case, str, random.Random], None]


def child(draw: random.Random) -> str:
    """A kind that every object has."""
    return draw.choice(["Deployment", "Service"])


def edit_replicas(case: Case, name: str, draw: random.Random) -> None:
    """Scale the Deployment behind the operator's back."""
    case.space.patch(name, {"spec": {"replicas": draw.randint(0, 4)}}, "Deployment")


def edit_service(case: Case, name: str, draw: random.Random) -> None:
    """Point the Service elsewhere."""
    case.space.patch(name, {"spec": {"selector": {"llm-operator.dev/deployment": "elsewhere"}}}, "Service")


def edit_container(case: Case, name: str, draw: random.Random) -> None:
    """Change the engine's image and arguments."""
    live = case.space.get("Deployment", name)
    if live is None:
        return
    container = live["spec"]["template"]["spec"]["containers"][0]
    patch = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": [*container["args"], "--evil"]},
    ]
    case.space.plane.request("PATCH", case.space.path("Deployment", name), patch, "application/json-patch+json")


def strip_labels(case: Case, name: str, draw: random.Random) -> None:
    """Remove every label of a child."""
    kind = child(draw)
    live = case.space.get(kind, name)
    if live is not None:
        labels = dict.fromkeys(live["metadata"].get("labels") or {})
        case.space.patch(name, {"metadata": {"labels": labels}}, kind)


def strip_annotations(case: Case, name: str, draw: random.Random) -> None:
    """Remove every annotation of the Deployment."""
    live = case.space.get("Deployment", name)
    if live is not None:
        case.space.patch(
            name, {"metadata": {"annotations": dict.fromkeys(live["metadata"].get("annotations") or {})}}, "Deployment"
        )


def delete_child(case: Case, name: str, draw: random.Random) -> None:
    """Delete a child, in one of the three ways."""
    path = case.space.path(child(draw), name)
    how = draw.choice(["Background", "Foreground", "Orphan"])
    case.space.plane.request("DELETE", path, {"propagationPolicy": how})


def delete_pods(case: Case, name: str, draw: random.Random) -> None:
    """Delete all pods."""
    for pod in case.space.names("Pod"):
        with suppress(ApiError):
            case.space.delete("Pod", pod)


def delete_jobs(case: Case, name: str, draw: random.Random) -> None:
    """Delete all Jobs."""
    for job in case.space.names("Job"):
        with suppress(ApiError):
            case.space.delete("Job", job)


def hold_child(case: Case, name: str, draw: random.Random) -> None:
    """Delete a child that somebody's finalizer holds for a while."""
    kind = child(draw)
    case.space.patch(name, HELD, kind)
    case.space.delete(kind, name)
    time.sleep(1)
    case.space.patch(name, FREE, kind)


def hold_object(case: Case, name: str, draw: random.Random) -> None:
    """Delete the object while a finalizer holds it, let it go, and create it again."""
    spec = (case.space.get(KIND, name) or {})["spec"]
    case.space.patch(name, HELD)
    case.space.delete(KIND, name)
    time.sleep(1)
    case.space.patch(name, FREE)
    eventually(lambda: case.space.get(KIND, name) is None, why="gone")
    case.space.create(whole(name, spec))


def orphan_object(case: Case, name: str, draw: random.Random) -> None:
    """Delete the object but not its children; they are nobody's then, so the vandal takes them away later."""
    spec = (case.space.get(KIND, name) or {})["spec"]
    case.space.plane.request("DELETE", case.space.path(KIND, name), {"propagationPolicy": "Orphan"})
    eventually(lambda: case.space.get(KIND, name) is None, why="gone")
    case.space.create(whole(name, spec))
    time.sleep(1)
    remove_foreign(case, name)


def disown_child(case: Case, name: str, draw: random.Random) -> None:
    """Strip a child of its owner, which makes it nobody's; the vandal takes it away later."""
    kind = child(draw)
    case.space.patch(name, {"metadata": {"ownerReferences": None}}, kind)
    time.sleep(0.5)
    remove_foreign(case, name)


def foreign_child(case: Case, name: str, draw: random.Random) -> None:
    """Put a foreign object in the place of a child, and take it away later."""
    spec = (case.space.get(KIND, name) or {})["spec"]
    case.space.delete(KIND, name)
    eventually(lambda: case.space.get(KIND, name) is None, why="gone")
    eventually(lambda: case.space.get("Service", name) is None, why="the Service is gone")
    case.space.create({"metadata": {"name": name}, "spec": {"ports": [{"port": 5432}]}}, "Service")
    case.space.create(whole(name, spec))
    time.sleep(1)
    remove_foreign(case, name)


def remove_foreign(case: Case, name: str) -> None:
    """Delete what has the name of a child or of a revision and no owner."""
    for revision in case.space.names(REVISION):
        live = case.space.get(REVISION, revision)
        named = number_and_digest(name, revision) is not None
        if named and live is not None and not live["metadata"].get("ownerReferences"):
            with suppress(ApiError):
                case.space.delete(REVISION, revision)
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        for suffix in ("", "-chat"):
            live = case.space.get(kind, name + suffix)
            if live is not None and not live["metadata"].get("ownerReferences"):
                with suppress(ApiError):
                    case.space.delete(kind, name + suffix)


VANDALS: tuple[Vandal, ...] = (
    edit_replicas, edit_service, edit_container, strip_labels, strip_annotations, delete_child, delete_pods,
    delete_jobs, hold_child, hold_object, orphan_object, disown_child, foreign_child,
)  # fmt: skip


def test_vandals(world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]) -> None:
    rounds, acts_a_round = (12, len(VANDALS)) if effort.long else (1, SHORT_ACTS)
    draw = random.Random(effort.seed)
    with measured("vandals, four objects at once", "acts") as result, Case(world, "vandals") as case:
        claim()(case)
        specs = {name: {**valid(draw), "replicas": 1} for name in NAMES}
        for name, spec in specs.items():
            case.space.create(whole(name, spec))
        expected = twin_state(world, specs)
        first = case.settle(expected, reduced=comparable)
        assert not first, first
        for number in range(rounds):
            acts = [(vandal, draw.choice(NAMES)) for vandal in draw.sample(VANDALS, acts_a_round)]
            for vandal, name in acts:
                # What is to be edited may be gone just now.
                with suppress(ApiError):
                    vandal(case, name, draw)
                result.count += 1
                time.sleep(draw.choice([0.0, 0.2]))
            for name in NAMES:
                remove_foreign(case, name)
            wrong = case.settle(expected, reduced=comparable, seconds=120) or case.quiet(within=30) or case.complaints()
            if wrong:
                done = ", ".join(f"{vandal.__name__}({name})" for vandal, name in acts)
                result.failures.append(f"round {number}: {done}\n{wrong}\n{case.log.read_text()[-3000:]}")
                print(result.failures[-1], flush=True)
                break
        result.note = f"{len(VANDALS)} kinds, {rounds} comparisons"


@pytest.mark.long
def test_rights_are_taken_and_given_back(
    world: World, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    with measured("rights taken while objects change", "times") as result, Case(world, "rights") as case:
        result.count = 1
        specs = [valid(random.Random(number)) for number in range(2)]
        for spec in specs:
            spec.pop("cache", None)
            spec.pop("weightQuantization", None)
        case.space.create(whole("one", specs[0]))
        case.rest(answered, quiet=1.0)
        bodies = [body for body in world.rights() if body["kind"] == "ClusterRoleBinding"]
        names = {body["metadata"]["name"] for body in bodies}
        live = [body for body in world.plane.request("GET", bindings)["items"] if body["metadata"]["name"] in names]
        for body in live:
            world.plane.request("DELETE", f"{bindings}/{body['metadata']['name']}")
        case.proxy.disconnect()
        case.space.create(whole("two", specs[1]))
        case.space.delete("Service", "one")
        time.sleep(10)
        before = sum(case.proxy.requests.values())
        time.sleep(5)
        rate = (sum(case.proxy.requests.values()) - before) / 5
        for body in live:
            fresh = {"metadata": {"name": body["metadata"]["name"]}, "roleRef": body["roleRef"]}
            world.plane.request("POST", bindings, {**fresh, "subjects": body["subjects"]})
        expected = twin_state(world, {"one": specs[0], "two": specs[1]})
        expected.pop("PersistentVolumeClaim", None)
        wrong = case.settle(expected, reduced=comparable, seconds=150) or case.quiet(within=30) or case.complaints()
        result.note = f"{rate:.0f} requests/s without rights"
        result.failures += [text for text in (wrong,) if text]
        assert rate < 40


@pytest.mark.long
def test_a_namespace_goes_and_comes_back(
    world: World, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    with measured("a namespace deleted in flight, and made again", "namespaces") as result:
        result.count = 1
        specs = {name: valid(random.Random(number)) for number, name in enumerate(NAMES)}
        expected = twin_state(world, specs)
        with Case(world, "gone") as case:
            fill(case, specs)
            case.rest(lambda space: bool(space.names("Deployment")), quiet=0.0)
            path = f"/api/v1/namespaces/{case.space.name}"
            world.plane.request("DELETE", path)
            eventually(lambda: world.plane.find(path) is None, why="the namespace goes", seconds=90)
            Space(world.plane, case.space.name)
            fill(case, specs)
            wrong = case.settle(expected, reduced=comparable, seconds=120) or case.quiet(within=30) or case.complaints()
            result.failures += [text for text in (wrong,) if text]


@pytest.mark.long
def test_a_namespace_that_finalizers_hold_and_that_comes_back(
    world: World, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    with measured("a namespace held in Terminating, and made again", "namespaces") as result:
        result.count = 1
        specs = {name: valid(random.Random(number)) for number, name in enumerate(NAMES)}
        expected = twin_state(world, specs)
        held = [(KIND, NAMES[0]), ("Deployment", NAMES[1]), ("Service", NAMES[2])]
        with Case(world, "held") as case:
            fill(case, specs)
            case.settle(expected, reduced=comparable, seconds=120)
            there = [(kind, name) for kind, name in held if case.space.get(kind, name) is not None]
            for kind, name in there:
                case.space.patch(name, HELD, kind)
            path = f"/api/v1/namespaces/{case.space.name}"
            world.plane.request("DELETE", path)
            eventually(lambda: case.space.names(KIND) == {NAMES[0]}, why="the others go", seconds=90)
            time.sleep(5)
            before = sum(case.proxy.requests.values())
            time.sleep(10)
            rate = (sum(case.proxy.requests.values()) - before) / 10
            for kind, name in there:
                case.space.patch(name, FREE, kind)
            eventually(lambda: world.plane.find(path) is None, why="the namespace goes", seconds=90)
            Space(world.plane, case.space.name)
            fill(case, specs)
            wrong = case.settle(expected, reduced=comparable, seconds=120) or case.quiet(within=30) or case.complaints()
            result.note = f"{len(there)} objects held; {rate:.1f} requests/s meanwhile"
            result.failures += [text for text in (wrong,) if text]
            assert rate < MOST_HELD


def fill(case: Case, specs: dict[str, JSON]) -> None:
    """Create the objects and their claim."""
    claim()(case)
    for name, spec in specs.items():
        case.space.create(whole(name, spec))


@pytest.mark.long
def test_the_crd_goes_and_comes_back(
    world: World, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
    with measured("the CRD deleted in flight, and made again", "CRDs") as result:
        result.count = 1
        specs = {name: valid(random.Random(number)) for number, name in enumerate(NAMES)}
        expected = twin_state(world, specs)
        with Case(world, "no-crd") as case:
            fill(case, specs)
            case.rest(answered, quiet=0.5)
            world.plane.request("DELETE", definition)
            eventually(lambda: world.plane.find(definition) is None, why="the CRD goes", seconds=60)
            time.sleep(3)
            world.plane.install_crd(CRD)
            eventually(lambda: not case.space.names("Deployment"), why="the children go", seconds=120)
            for name, spec in specs.items():
                case.space.create(whole(name, spec))
            wrong = case.settle(expected, reduced=comparable, seconds=150) or case.quiet(within=30) or case.complaints()
            result.failures += [text for text in (wrong,) if text]
