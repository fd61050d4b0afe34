"""One JSON patch that undoes all that others did to a child."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.reconcile.covers import covers
from llm_operator.reconcile.mending import belonging, mend, merged

JSON = dict[str, Any]
DESIRED: JSON = {
    "metadata": {"labels": {"a": "b"}, "ownerReferences": [{"uid": "o", "kind": "LLMDeployment"}]},
    "spec": {
        "replicas": 1,
        "selector": {"app": "x"},
        "containers": [{"name": "engine", "env": [{"name": "A", "value": "1"}], "args": ["--a"]}],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    },
}


def owned(manager: str, spec: JSON) -> JSON:
    return {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": spec}}


OURS = owned(
    "llm-operator",
    {
        "f:replicas": {},
        "f:selector": {},
        "f:containers": {
            'k:{"name":"engine"}': {
                ".": {},
                "f:name": {},
                "f:args": {},
                "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
            }
        },
        "f:volumes": {'k:{"name":"cache"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
    },
)


def live(spec: JSON, *entries: JSON, **metadata: Any) -> JSON:
    meta = {**DESIRED["metadata"], "uid": "u", "resourceVersion": "7", "managedFields": list(entries), **metadata}
    return {"metadata": meta, "spec": spec}


def spec_of(operations: list[JSON]) -> JSON:
    assert operations[0] == {"op": "test", "path": "/metadata/uid", "value": "u"}
    (found,) = (one["value"] for one in operations if (one["op"], one["path"]) == ("replace", "/spec"))
    answer: JSON = found
    return answer


def test_nothing_of_others_is_nothing_to_mend() -> None:
    assert mend(live(DESIRED["spec"], OURS), DESIRED) == []
    assert mend(live({**DESIRED["spec"], "of the server": 1}, OURS), DESIRED) == []


def test_another_source_goes_as_ours_comes_back() -> None:
    spec = copy.deepcopy(DESIRED["spec"])
    spec["volumes"] = [{"name": "cache", "hostPath": {"path": "/"}}]
    theirs = owned("edit", {"f:volumes": {'k:{"name":"cache"}': {"f:hostPath": {".": {}, "f:path": {}}}}})
    before = copy.deepcopy(spec)
    assert spec_of(mend(live(spec, OURS, theirs), DESIRED)) == DESIRED["spec"]
    assert spec == before, "what was read stays as it is"


def test_a_map_that_is_one_value_is_replaced() -> None:
    spec = {**DESIRED["spec"], "selector": {"app": "db", "more": "x"}, "externalIPs": ["192.0.2.1"]}
    theirs = owned("edit", {"f:selector": {}, "f:externalIPs": {}})
    assert spec_of(mend(live(spec, theirs), DESIRED)) == DESIRED["spec"]


def test_an_entry_that_a_webhook_added_without_owning_it_stays() -> None:
    spec = {**DESIRED["spec"], "containers": [{"name": "sidecar"}, *DESIRED["spec"]["containers"]], "hostNetwork": True}
    mended = spec_of(mend(live(spec, OURS, owned("edit", {"f:hostNetwork": {}})), DESIRED))
    assert mended == {**DESIRED["spec"], "containers": spec["containers"]}


def test_none_of_hundreds_is_left() -> None:
    names = [f"M{number}" for number in range(500)]
    spec = copy.deepcopy(DESIRED["spec"])
    spec["containers"][0]["env"] += [{"name": name, "value": "1"} for name in names]
    env: JSON = {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}, "f:value": {}} for name in names}
    theirs = owned("edit", {"f:containers": {'k:{"name":"engine"}': {"f:env": env}}, "f:hostPID": {}})
    assert spec_of(mend(live({**spec, "hostPID": True}, OURS, theirs), DESIRED)) == DESIRED["spec"]


def test_labels_and_owners_come_back_beside_those_of_others() -> None:
    assert belonging(live({}), DESIRED) == []
    assert belonging(live({}, labels={"a": "b", "c": "d"}), DESIRED) == []
    bare = live({}, labels={"c": "d"}, ownerReferences=[{"uid": "o", "kind": "Evil"}])
    assert belonging(bare, DESIRED) == [
        {"op": "add", "path": "/metadata/labels", "value": {"c": "d", "a": "b"}},
        {"op": "add", "path": "/metadata/ownerReferences", "value": DESIRED["metadata"]["ownerReferences"]},
    ]


NAMES = st.sampled_from(["replicas", "selector", "containers", "volumes", "env", "args", "x"])
VALUES = st.recursive(
    st.integers(0, 3) | st.text(alphabet="ab", max_size=2),
    lambda inner: (
        st.lists(st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"x": inner}), max_size=3)
        | st.lists(inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=3)
    ),
    max_leaves=12,
)


def unambiguous(value: Any) -> bool:
    """Whether every entry of a list of maps has a name, and no two the same, as the API server makes sure of."""
    if isinstance(value, dict):
        return all(unambiguous(one) for one in value.values())
    if not isinstance(value, list):
        return True
    maps = [one for one in value if isinstance(one, dict)]
    names = {one["name"] for one in maps if isinstance(one.get("name"), str)}
    return (not maps or len(names) == len(value)) and all(unambiguous(one) for one in value)


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(NAMES, VALUES, max_size=4).filter(unambiguous))
def test_whatever_is_there_everything_desired_is_there_after_it(there: JSON, desired: JSON) -> None:
    assert covers(merged(there, desired), desired)
