"""The overlay's merge against the API server's own strategic merge patch, with the operator's templates.

The server answers a dry run of a PATCH of a PodTemplate; ours is a dry run of the same object, merged here. Both give
the same template, or are refused with the same words.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from llm_operator.manifests.overlay.merge import merge
from llm_operator.manifests.overlay.table import problems
from tests.support.overlays import pod_overlays
from tests.support.rendered import children_of, jobs_of, manifests, parsed_manifest

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]
PATH = "/api/v1/namespaces/default/podtemplates"
EXAMPLES = 120
KEYS = ("name", "mountPath", "devicePath", "containerPort", "ip", "topologyKey", "uid")
Answer = tuple[object, object]


def templates() -> dict[str, JSON]:
    """A template of each kind of pod as the operator makes it."""
    cached = parsed_manifest(next(name for name in manifests() if name.startswith("07-quantize")))
    plain = parsed_manifest(next(name for name in manifests() if name.startswith("01-phi4")))
    return {
        "engine": children_of(plain)[0]["spec"]["template"],
        "engine-of-a-claim": children_of(cached)[0]["spec"]["template"],
        "tool": jobs_of(cached)[-1]["spec"]["template"],
    }


def within_new(value: Any) -> Any:
    """What is new, without directives: the server passes some of them on as unknown fields and drops others."""
    if isinstance(value, dict):
        kept = {name: entry for name, entry in value.items() if not name.startswith("$") and entry is not None}
        return {name: within_new(entry) for name, entry in kept.items() if not is_deleted(entry)}
    if isinstance(value, list):
        return [within_new(entry) for entry in value if not isinstance(entry, dict) or "$patch" not in entry]
    return value


def is_deleted(value: Any) -> bool:
    return isinstance(value, dict) and value.get("$patch") == "delete"


def for_server(value: Any, base: Any) -> Any:
    """A `replace` of nothing is the value itself in an overlay; the server makes nothing of it."""
    if isinstance(value, dict):
        if value.get("$patch") == "replace":
            new = within_new(value)
            return {**new, "$patch": "replace"} if isinstance(base, dict) else new
        if "$patch" in value:
            return value
        known = base if isinstance(base, dict) else {}
        return {name: for_server(entry, known.get(name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [entry_for_server(entry, base if isinstance(base, list) else []) for entry in value]
    return value


def entry_for_server(entry: Any, base: list[Any]) -> Any:
    if not isinstance(entry, dict) or "$patch" in entry:
        return entry
    key = next((key for key in KEYS if key in entry), None)
    same = [one for one in base if key is not None and isinstance(one, dict) and one.get(key) == entry[key]]
    return for_server(entry, same[0]) if same else within_new(entry)


def answered(plane: ControlPlane, method: str, path: str, body: JSON, content: str = "application/json") -> Answer:
    try:
        return "taken", plane.request(method, f"{path}?dryRun=All", body, content)["template"]
    except ApiError as error:
        return error.status, json.loads(error.body)["message"]


@pytest.fixture(scope="module")
def bases(control_plane: ControlPlane) -> dict[str, JSON]:
    """The templates as the server keeps them: its defaults are part of what a patch meets."""
    return {
        name: control_plane.request("POST", PATH, {"metadata": {"name": name}, "template": template})["template"]
        for name, template in templates().items()
    }


def test_random_overlays_are_merged_as_the_api_server_merges_them(
    control_plane: ControlPlane, bases: dict[str, JSON]
) -> None:
    verdicts: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sorted(bases)), pod_overlays())
    def judge(name: str, overlay: JSON) -> None:
        metadata = overlay.get("metadata")
        if isinstance(metadata, dict):
            # The other fields of metadata are refused before any merge.
            overlay["metadata"] = {key: metadata[key] for key in ("labels", "annotations", "$patch") if key in metadata}
        if any(problems(overlay)):
            verdicts["refused here"] += 1
            return
        patch = {"template": for_server(overlay, bases[name])}
        theirs = answered(control_plane, "PATCH", f"{PATH}/{name}", patch, "application/strategic-merge-patch+json")
        if theirs[0] == 500:
            # An order of a list that is empty on both sides (apimachinery, sliceElementType).
            assert "no elements in any of the given slices" in str(theirs[1])
            return
        whole = {"metadata": {"name": "merged"}, "template": merge(bases[name], overlay)}
        ours = answered(control_plane, "POST", PATH, whole)
        assert _named(ours, "merged", name) == theirs, overlay
        verdicts[str(theirs[0])] += 1

    judge()
    assert verdicts["taken"] > EXAMPLES // 6, verdicts
    assert verdicts["422"] > EXAMPLES // 6, verdicts


def _named(answer: Answer, name: str, other: str) -> Answer:
    status, said = answer
    return status, said.replace(f'"{name}"', f'"{other}"') if isinstance(said, str) else said


BY_HAND: dict[str, JSON] = {
    "a sidecar stands before": {"containers": [{"name": "proxy", "image": "a:1"}]},
    "the order that is given": {"containers": [{"name": "engine", "stdin": True}, {"name": "proxy", "image": "a:1"}]},
    "an order": {
        "$setElementOrder/containers": [{"name": "engine"}, {"name": "proxy"}],
        "containers": [{"name": "proxy", "image": "a:1"}],
    },
    "an order alone": {"$setElementOrder/volumes": [{"name": "guard"}, {"name": "shm"}]},
    "a user id that goes": {"securityContext": {"runAsUser": None, "runAsGroup": None}},
    "a context that is replaced": {"securityContext": {"$patch": "replace", "runAsUser": 1000}},
    "a context that is deleted": {"securityContext": {"$patch": "delete"}},
    "the keys that stay": {"securityContext": {"$retainKeys": ["runAsUser"], "runAsUser": 1000}},
    "a volume that goes": {"volumes": [{"name": "shm", "$patch": "delete"}]},
    "volumes that are replaced": {"volumes": [{"$patch": "replace"}, {"name": "own", "emptyDir": {}}]},
    "a variable that goes": {"containers": [{"name": "engine", "env": [{"name": "HF_HOME", "$patch": "delete"}]}]},
    "limits that are replaced": {
        "containers": [{"name": "engine", "resources": {"limits": {"$patch": "replace", "cpu": "1"}, "requests": None}}]
    },
    "tolerations are replaced": {"tolerations": [{"operator": "Exists"}]},
    "the default spread goes": {"topologySpreadConstraints": None},
    "two constraints with one key": {
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
            {"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"},
        ]
    },
}


@pytest.mark.parametrize("name", BY_HAND)
def test_overlays_by_hand(control_plane: ControlPlane, bases: dict[str, JSON], name: str) -> None:
    overlay = {"spec": BY_HAND[name]}
    assert not list(problems(overlay))
    theirs = answered(
        control_plane, "PATCH", f"{PATH}/engine", {"template": overlay}, "application/strategic-merge-patch+json"
    )
    whole = {"metadata": {"name": "merged"}, "template": merge(bases["engine"], overlay)}
    assert _named(answered(control_plane, "POST", PATH, whole), "merged", "engine") == theirs
    assert theirs[0] == "taken" or "Not found" in str(theirs[1]), theirs
