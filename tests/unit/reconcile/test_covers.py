import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.reconcile.covers import covers, differences

SCALAR = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_everything_covers_itself(value: object) -> None:
    assert covers(json.loads(json.dumps(value)), value)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.text(min_size=6, max_size=8), JSON)
def test_what_others_added_is_ignored(value: dict[str, object], key: str, extra: object) -> None:
    assert covers({**value, key: extra}, value)


def test_a_changed_value_is_drift() -> None:
    assert not covers({"spec": {"replicas": 3}}, {"spec": {"replicas": 2}})


def test_a_removed_value_is_drift() -> None:
    assert not covers({"labels": {}}, {"labels": {"app": "x"}})


def test_an_appended_list_item_is_drift() -> None:
    assert not covers({"args": ["a", "b"]}, {"args": ["a"]})


def test_quantities_compare_by_value_where_they_are_quantities() -> None:
    assert covers({"limits": {"cpu": "500m"}}, {"limits": {"cpu": "0.5"}})
    assert covers({"emptyDir": {"sizeLimit": "2Gi"}}, {"emptyDir": {"sizeLimit": "2147483648"}})
    assert not covers({"limits": {"cpu": "500m"}}, {"limits": {"cpu": "1"}})
    assert not covers({"value": "500m"}, {"value": "0.5"})


def test_what_is_empty_may_be_left_out() -> None:
    assert covers({"name": "A"}, {"name": "A", "value": ""})
    assert not covers({"name": "A"}, {"name": "A", "value": "x"})
    assert not covers({}, {"replicas": 0})


def test_one_more_label_in_a_selector_is_drift() -> None:
    assert not covers({"selector": {"a": "1", "b": "2"}}, {"selector": {"a": "1"}})


def test_an_added_entry_of_a_list_that_is_merged_by_entry_is_no_difference() -> None:
    desired = {
        "containers": [{"name": "engine", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}]
    }
    live: dict[str, Any] = {
        "containers": [
            {"name": "sidecar"},
            {
                "name": "engine",
                "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
                "ports": [{"containerPort": 9, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
            },
        ]
    }
    assert covers(live, desired)
    live["containers"][1]["env"] = [{"name": "A", "value": "3"}]
    assert list(differences(live, desired)) == ["containers[name=engine].env[name=A].value"]
    live["containers"].pop()
    assert list(differences(live, desired)) == ["containers[name=engine]"]


def test_an_added_port_of_a_network_policy_is_drift() -> None:
    desired = {"ingress": [{"ports": [{"port": 8000, "protocol": "TCP"}]}]}
    live = {"ingress": [{"ports": [{"port": 8000, "protocol": "TCP"}, {"port": 22, "protocol": "TCP"}]}]}
    assert list(differences(live, desired)) == ["ingress"]


@settings(deadline=None)
@given(JSON, JSON)
def test_there_are_differences_where_it_is_not_covered(live: object, desired: object) -> None:
    assert covers(live, desired) == (list(differences(live, desired)) == [])
