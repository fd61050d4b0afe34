"""Numbers and names of revisions: one for each rendering, bounded, and the one that runs never goes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.live.texts import whole
from llm_operator.manifests.common import ANNOTATION_TEMPLATE, compact_json, container_of
from llm_operator.manifests.pod import CONTAINER
from llm_operator.manifests.revision import (
    REVISION,
    content_of,
    digest_of,
    number_and_digest,
    revision,
    revision_name,
)
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rendered import applied_template
from llm_operator.reconcile.revisions import MOST_REMOVED, Revision, owner_of
from tests.support.build import (
    UID,
    applied,
    live_revision,
    made_by_an_older_operator,
    once_written,
    plan,
    resource,
)


def removed(decision: Decision) -> set[str]:
    return {delete.name for delete in decision.deletes if delete.kind == REVISION}


def step(seen: Observed, **spec: Any) -> Observed:
    """One reconciliation, with all its writes."""
    of = resource(**spec)
    decision = decide(of, seen, plan(of))
    after = once_written(decision.applies, seen)
    return replace(
        after, revisions={name: one for name, one in after.revisions.items() if name not in removed(decision)}
    )


def numbers(seen: Observed) -> list[int]:
    return sorted(one.number for one in seen.revisions.values())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), st.integers(0, 4))
def test_there_are_never_more_than_the_limit_and_the_one_that_runs(contexts: list[int], limit: int) -> None:
    seen, before, count = Observed(), 0, 0
    for context in contexts:
        seen = step(seen, contextLength=1024 * context, revisionHistoryLimit=limit)
        count += context != before
        before = context
        child = seen.workload
        assert child is not None
        assert child.revision in seen.revisions
        assert seen.revisions[child.revision].number == count == max(numbers(seen))
        assert len(seen.revisions) <= max(limit, 1) + 1
    # Nothing changes: nothing is written, and a limit of 0 has its way at the next look.
    seen = step(seen, contextLength=1024 * before, revisionHistoryLimit=limit)
    of = resource(contextLength=1024 * before, revisionHistoryLimit=limit)
    again = decide(of, seen, plan(of))
    assert (again.applies, again.deletes) == ((), ())
    assert len(seen.revisions) == min(count, limit + 1)


def never_ran(number: int, seen: Observed, **fields: Any) -> Revision:
    template = {**decide(resource(), seen, plan(resource())).template, "never": number}  # type: ignore[dict-item]
    return replace(live_revision(revision(resource(), number, content_of(template, None))), **fields)


def with_others(seen: Observed, *others: Revision) -> Observed:
    return replace(seen, revisions={**seen.revisions, **{one.name: one for one in others}})


def test_a_rendering_whose_deployment_was_never_written_goes() -> None:
    seen = applied(resource())
    wanted = with_others(seen, never_ran(1, seen), never_ran(2, seen), never_ran(7, seen, owner_uid="somebody"))
    decision = decide(resource(), wanted, plan(resource()))
    assert removed(decision) == {one.name for one in (never_ran(1, seen), never_ran(2, seen))}
    assert decision.applies == ()


def test_after_a_crash_between_the_two_writes_the_same_revision_is_used() -> None:
    seen = applied(resource())
    changed = resource(contextLength=2048)
    first = decide(changed, seen, plan(changed))
    crashed = once_written(first.applies[:1], seen)
    again = decide(changed, crashed, plan(changed))
    assert [apply.body for apply in again.applies] == [apply.body for apply in first.applies[1:]]
    assert removed(again) == set()
    # The same of an upgrade, and of an object that is new.
    older = made_by_an_older_operator(seen)
    upgrade = decide(resource(), older, plan(resource()))
    again = decide(resource(), once_written(upgrade.applies[:1], older), plan(resource()))
    assert [apply.body for apply in again.applies] == [apply.body for apply in upgrade.applies[1:]]
    new = decide(resource(), Observed(), plan(resource()))
    again = decide(resource(), once_written(new.applies[:1]), plan(resource()))
    assert [apply.body for apply in again.applies] == [apply.body for apply in new.applies[1:]]


def test_one_look_removes_some_and_the_next_one_the_rest() -> None:
    seen = applied(resource())
    many = with_others(seen, *(never_ran(number, seen) for number in range(2, 200)))
    assert len(removed(decide(resource(), many, plan(resource())))) == MOST_REMOVED


def test_a_reference_that_is_gone_or_nonsense() -> None:
    seen = applied(resource())
    child = seen.workload
    assert child is not None
    for reference in ("", "nonsense", "demo-1", "demo-0-0123456789", "demo-9-0123456789", "other-1-0123456789"):
        spoilt = replace(seen, children={**seen.children, ("Deployment", "engine"): replace(child, revision=reference)})
        decision = decide(resource(), spoilt, plan(resource()))
        assert decision.template == decide(resource(), Observed(), plan(resource())).template
        assert child.revision not in removed(decision) or reference == "demo-9-0123456789"


def test_the_highest_number_is_followed_by_the_first() -> None:
    seen = applied(resource())
    child = seen.workload
    assert child is not None
    content = content_of(decide(resource(), seen, plan(resource())).template or {}, None)
    last = live_revision(revision(resource(), 999_999_999, content))
    runs = replace(seen, children={**seen.children, ("Deployment", "engine"): replace(child, revision=last.name)})
    changed = resource(contextLength=2048)
    body = decide(changed, with_others(replace(runs, revisions={}), last), plan(changed)).applies[0].body
    assert body["revision"] == 1


@pytest.mark.parametrize(
    "text", ["", "null", "{}", '{"template": 1}', '{"template": {"metadata": {}, "spec": {}}}', "[1]", "{"]
)
def test_what_a_revision_holds_otherwise_than_its_name_says_is_rendered_anew(text: str) -> None:
    seen = applied(resource())
    ((name, one),) = seen.revisions.items()
    spoilt = replace(seen, revisions={name: replace(one, text=text)})
    decision = decide(resource(), spoilt, plan(resource()))
    assert [apply.body["metadata"]["name"] for apply in decision.applies] == [name]
    assert decision.applies[0].body["data"]["template"] == decision.template


def test_names() -> None:
    long = "a" * 52
    name = revision_name(long, 999_999_999, "0123456789" * 2)
    assert len(name) == 83
    assert number_and_digest(long, name) == (999_999_999, "0123456789" * 2)
    assert number_and_digest("demo", "demo-1-0123456789") == (1, "0123456789"), "of the first operators with revisions"
    for other in (
        "demo-1",
        "demo-01-0123456789",
        "demo-1-012345678g",
        "demo-1-0123456789-1",
        "demo-1234567890-0123456789",
    ):
        assert number_and_digest("demo", other) is None
    assert number_and_digest("demo", "demo-2-1-0123456789") is None
    meta = {
        "name": "demo-1-0123456789",
        "ownerReferences": [{"kind": "StatefulSet", "name": "demo", "controller": True}],
    }
    assert owner_of(meta) is None
    assert owner_of({**meta, "ownerReferences": []}) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_the_digest_does_not_depend_on_order(value: Any) -> None:
    content = {"b": value, "a": 1}
    assert digest_of(content) == digest_of({"a": 1, "b": value})
    assert compact_json(content) == compact_json(dict(sorted(content.items())))


def test_the_data_is_in_order_as_the_api_server_writes_it_again() -> None:
    seen = decide(resource(), Observed(), plan(resource())).applies[0].body

    def ordered(value: Any) -> bool:
        if isinstance(value, dict):
            return list(value) == sorted(value) and all(ordered(one) for one in value.values())
        return all(ordered(one) for one in value) if isinstance(value, list) else True

    assert ordered(seen["data"])
    assert seen["metadata"]["ownerReferences"][0]["uid"] == UID


def test_an_annotation_of_before_revisions_counts_for_nothing_beside_one() -> None:
    """Who may edit Deployments may write it; they must not have the operator run another template for ever."""
    of = resource()
    seen = applied(of)
    forged = copy.deepcopy(applied_template(of, seen))
    assert forged is not None
    container_of(forged, CONTAINER)["image"] = "registry.example.com/theirs"
    older = made_by_an_older_operator(seen, **{ANNOTATION_TEMPLATE: compact_json(forged)})
    assert applied_template(of, older) == forged, "of an operator before revisions it is what runs"
    edited = replace(older, revisions=seen.revisions)
    assert applied_template(of, edited) == applied_template(of, seen)
    (write,) = decide(of, edited, plan(of)).applies
    assert (write.body["kind"], write.body["spec"]["template"]) == ("Deployment", applied_template(of, seen))


def test_a_name_of_ten_digits_stays_also_when_it_is_made_again() -> None:
    """The first operators with revisions wrote them; what runs must not change for that."""
    of = resource()
    seen = applied(of)
    ((name, one),) = seen.revisions.items()
    short = name[:-10]
    child = replace(seen.children["Deployment", "engine"], revision=short)
    child = replace(child, text=whole(child.text).replace(name, short))
    old = replace(one, name=short, digest=one.digest[:10])
    upgraded = replace(seen, children={**seen.children, ("Deployment", "engine"): child}, revisions={short: old})
    assert decide(of, upgraded, plan(of)).applies == ()
    (write,) = decide(of, replace(upgraded, revisions={short: replace(old, gone=True)}), plan(of)).applies
    assert (write.body["kind"], write.body["metadata"]["name"]) == (REVISION, short)
