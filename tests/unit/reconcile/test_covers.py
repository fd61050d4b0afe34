import json

from hypothesis import given
from hypothesis import strategies as st

from llm_operator.reconcile.covers import covers

SCALAR = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@given(JSON)
def test_everything_covers_itself(value: object) -> None:
    assert covers(json.loads(json.dumps(value)), value)


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
