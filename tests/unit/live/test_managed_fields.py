"""Fields of others in managedFields: found by owner, resolved in the live object, removed from the end."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.live.managed_fields import MOST_FIELDS, PATH_CHARACTERS, foreign_fields, removal

JSON = dict[str, Any]


def entry(manager: str, spec: JSON, operation: str = "Apply", **more: Any) -> JSON:
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": spec}, **more}


def live(spec: JSON, *entries: JSON) -> JSON:
    return {"metadata": {"uid": "u", "resourceVersion": "7", "managedFields": list(entries)}, "spec": spec}


def removed(of: JSON) -> JSON:
    """The spec after the removal, by the rules of JSON patch."""
    spec = copy.deepcopy(of)
    for operation in removal(of, foreign_fields(of))[2:]:
        *parents, last = operation["path"].split("/")[1:]
        target: Any = spec
        for part in (one.replace("~1", "/").replace("~0", "~") for one in parents):
            target = target[int(part)] if isinstance(target, list) else target[part]
        last = last.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            del target[int(last)]
        else:
            del target[last]
    found: JSON = spec["spec"]
    return found


def test_only_the_outermost_field_of_another_manager_counts() -> None:
    ours = entry("llm-operator", {"f:env": {'k:{"name":"A"}': {".": {}, "f:value": {}}}})
    theirs = entry("edit", {"f:env": {'k:{"name":"A"}': {"f:value": {}}, 'k:{"name":"B"}': {".": {}, "f:value": {}}}})
    of = live({"env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}]}, ours, theirs)
    (field,) = foreign_fields(of)
    assert (field.manager, field.path, field.pointer) == ("edit", "spec.env[name=B]", ("spec", "env", 0))
    assert removed(of) == {"env": [{"name": "A", "value": "2"}]}


def test_status_and_what_is_gone_or_everybodys_do_not_count() -> None:
    ours = entry("llm-operator", {"f:template": {"f:metadata": {"f:labels": {}}}})
    everybody: JSON = {
        "f:paused": {},
        "f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}},
    }
    spec = {"paused": True, "template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "t"}}}}
    of = live(
        spec,
        ours,
        entry("a", everybody),
        entry("b", {"f:gone": {}}),
        entry("c", {"f:paused": {}}, subresource="status"),
    )
    assert foreign_fields(of) == ()


def test_a_key_with_a_slash_and_a_tilde() -> None:
    of = live(
        {"map": {"a/b~c": 1, "keep": 2}},
        entry("llm-operator", {"f:map": {"f:keep": {}}}),
        entry("x", {"f:map": {"f:a/b~c": {}}}),
    )
    assert removed(of) == {"map": {"keep": 2}}


@settings(deadline=None)
@given(st.sets(st.integers(0, 12), max_size=8), st.integers(1, 4))
def test_any_entries_of_a_list_are_removed_and_no_other(foreign: set[int], managers: int) -> None:
    def key(number: int) -> str:
        return f'k:{{"name":"n{number}"}}'

    entries = [entry("llm-operator", {"f:list": {key(n): {".": {}} for n in range(13) if n not in foreign}})]
    for manager in range(managers):
        entries.append(entry(f"m{manager}", {"f:list": {key(n): {".": {}} for n in foreign}}, "Update"))
    of = live({"list": [{"name": f"n{number}"} for number in range(13)]}, *entries)
    assert {one["name"] for one in removed(of)["list"]} == {f"n{n}" for n in range(13)} - {
        f"n{n}" for n in sorted(foreign)
    } or len(foreign) * managers > MOST_FIELDS


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8).map(lambda text: f"f:{text}") | st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSONS, JSONS)
def test_absurd_records_do_no_harm(fields: object, spec: object) -> None:
    of = {
        "metadata": {
            "uid": "u",
            "resourceVersion": "1",
            "managedFields": [
                {"manager": "x" * 4096, "fieldsV1": {"f:spec": fields}},
                {"manager": None, "fieldsV1": fields},
            ],
        },
        "spec": spec,
    }
    for field in foreign_fields(of):
        assert len(field.path) <= PATH_CHARACTERS + 3
        assert len(field.manager) <= 128
    removal(of, foreign_fields(of))


def test_a_record_that_is_very_deep_is_not_followed_for_ever() -> None:
    fields: JSON = {}
    for _ in range(5000):
        fields = {"f:a": fields}
    assert foreign_fields(live({"a": {}}, entry("llm-operator", fields), entry("deep", fields))) == ()
