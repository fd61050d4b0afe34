"""Who stands aside where two operators serve one object, and when it comes back; clocks are the test's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from llm_operator.kube.contest import (
    CONDITION,
    GONE_SECONDS,
    MOST_UNDONE,
    RENEW_SECONDS,
    STATUS_WRITTEN,
    WITHIN_SECONDS,
    Contest,
)
from llm_operator.manifests.common import MANAGER

JSON = dict[str, Any]
KEY = ("team", "demo")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Object:
    """The object that two operators write, and the time for both."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.version = 1
        self.status: JSON = {"conditions": []}
        self.written = ""
        self.others: list[JSON] = []
        """Managed fields of others, as the cache keeps them."""

    def now(self) -> str:
        return (START + timedelta(seconds=self.seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def body(self) -> JSON:
        meta = {"resourceVersion": str(self.version), "generation": 1, "managedFields": self.others}
        return {"metadata": {**meta, STATUS_WRITTEN: self.written}, "status": self.status}

    def store(self, status: JSON) -> JSON:
        """As an operator does; the object as it is stored."""
        self.status, self.version = status, self.version + 1
        self.written = f"2026-01-01T{self.version:08}"
        entry = {"manager": MANAGER, "subresource": "status", "time": self.written}
        return {"metadata": {"managedFields": [entry]}, "status": status}

    def operator(self, name: str) -> Operator:
        return Operator(self, name)


class Operator:
    """One operator, which would have a status of its own."""

    def __init__(self, of: Object, name: str) -> None:
        self._of, self._name = of, name
        self.contest = Contest(name, lambda: of.seconds)

    def look(self) -> str:
        """One reconciliation: what it did."""
        of = self._of
        aside = self.contest.aside(KEY, of.body(), of.now())
        if aside is not None:
            if aside.status is None:
                return "aside"
            self.contest.writes_status(KEY, aside.status)
            self.contest.wrote_status(KEY, aside.status, of.store(aside.status))
            return "says so"
        carried = self.contest.carried(KEY, of.status, of.now())
        status: JSON = {"by": self._name, "conditions": [carried[0]] if carried else []}
        if status == of.status:
            return "quiet"
        self.contest.writes_status(KEY, status)
        self.contest.wrote_status(KEY, status, of.store(status))
        return "wrote"


def contested(of: Object) -> list[str]:
    return [one["message"].split(" stands")[0] for one in of.status["conditions"] if one["type"] == CONDITION]


def fight(of: Object, one: Operator, two: Operator) -> int:
    """Both look in turn until neither writes; how many looks that took."""
    for count in range(100):
        before = of.version
        one.look()
        two.look()
        if of.version == before:
            return count
    raise AssertionError("they fight for ever")


def test_a_single_operator_is_never_aside() -> None:
    of = Object()
    one = of.operator("one")
    assert [one.look() for _ in range(20)] == ["wrote", *["quiet"] * 19]


def test_of_two_one_stands_aside_and_the_other_goes_on() -> None:
    of = Object()
    one, two = of.operator("one"), of.operator("two")
    assert fight(of, one, two) <= MOST_UNDONE + 2
    assert contested(of) == ["one"]
    assert of.status["by"] == "two"


def test_a_restart_of_either_changes_nothing() -> None:
    of = Object()
    fight(of, of.operator("one"), of.operator("two"))
    before = of.version
    assert fight(of, of.operator("one"), of.operator("two")) == 0
    assert of.version == before


def test_it_is_said_again_while_both_live() -> None:
    of = Object()
    one, two = of.operator("one"), of.operator("two")
    fight(of, one, two)
    before = of.version
    of.seconds += RENEW_SECONDS
    fight(of, one, two)
    assert of.version == before + 2
    assert contested(of) == ["one"]


def test_who_stands_aside_goes_on_when_the_other_one_is_gone() -> None:
    of = Object()
    one = of.operator("one")
    fight(of, one, of.operator("two"))
    of.seconds += GONE_SECONDS - 1
    assert one.look() == "aside"
    of.seconds += 2
    assert one.look() == "wrote"
    assert (of.status["by"], contested(of)) == ("one", [])


def test_the_condition_goes_when_the_one_that_stood_aside_is_gone() -> None:
    of = Object()
    two = of.operator("two")
    fight(of, of.operator("one"), two)
    of.seconds += RENEW_SECONDS
    assert two.look() == "wrote"
    assert contested(of) == []
    assert two.look() == "quiet"


def test_if_both_would_stand_aside_the_first_to_say_so_does() -> None:
    of = Object()
    one, two = of.operator("one"), of.operator("two")
    for operator in (one, two):
        operator.contest.undone(KEY, MOST_UNDONE)
    assert one.look() == "says so"
    assert two.look() == "wrote"
    assert fight(of, one, two) == 0
    assert contested(of) == ["one"]


def test_edits_of_the_status_now_and_then_are_no_contest() -> None:
    of = Object()
    one = of.operator("one")
    for _ in range(3 * MOST_UNDONE):
        of.store({"conditions": []})
        assert one.look() == "wrote"
        of.seconds += WITHIN_SECONDS / (MOST_UNDONE - 1)


def test_edits_of_the_status_by_somebody_else_are_no_contest_however_many() -> None:
    of = Object()
    one = of.operator("one")
    for _ in range(3 * MOST_UNDONE):
        of.store({"conditions": []})
        of.others = [{"manager": "kubectl-edit", "subresource": "status"}]
        assert one.look() == "wrote"


def test_removals_from_the_status_by_somebody_else_are_no_contest_however_many() -> None:
    """The API server has no entry for who only removes fields; the operators' own keeps its time."""
    of = Object()
    one = of.operator("one")
    for _ in range(3 * MOST_UNDONE):
        of.status, of.version = {"conditions": []}, of.version + 1
        assert one.look() == "wrote"


def test_a_condition_without_a_time_is_an_old_one() -> None:
    of = Object()
    of.store({"conditions": [{"type": CONDITION, "message": "one stands aside", "lastTransitionTime": "yesterday"}]})
    assert of.operator("one").look() == "wrote"
    assert contested(of) == []


##### Children


def live(uid: str, at: str, manager: str = "llm-operator") -> JSON:
    return {"metadata": {"uid": uid, "managedFields": [{"manager": manager, "operation": "Apply", "time": at}]}}


def test_a_child_that_another_operator_wrote_counts_and_a_persons_edit_does_not() -> None:
    contest, body = Contest("one", lambda: 0.0), {"spec": {"a": 1}}
    for found in (
        (body, live("u", "2026-01-01T00:00:00Z")),
        (body, live("u", "2026-01-01T00:00:09Z", "kubectl-edit")),
        ({"spec": {"a": 2}}, live("u", "2026-01-01T00:00:09Z")),
    ):
        for _ in range(MOST_UNDONE):
            contest.wrote_child(body, live("u", "2026-01-01T00:00:00Z"))
            contest.finds_child(KEY, *found)
    assert not contest.lost(KEY)
    for second in range(MOST_UNDONE // 2):
        contest.wrote_child(body, live("u", f"2026-01-01T00:00:0{second}Z"))
        contest.finds_child(KEY, body, live("u", "2026-01-01T00:00:09Z"))
    assert contest.lost(KEY)


class Stored:
    """A child as the API server keeps it, and one operator alone that writes it."""

    def __init__(self) -> None:
        self.seconds = 0
        self.contest = Contest("one", lambda: float(self.seconds))
        self.body: JSON = {"spec": {"a": 1}}
        self.at = self._now()
        self.contest.wrote_child(self.body, self.live())

    def _now(self) -> str:
        return (START + timedelta(seconds=self.seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def live(self) -> JSON:
        return live("u", self.at)

    def write(self, *, stored: bool, answered: bool) -> None:
        self.seconds += 1
        self.contest.finds_child(KEY, self.body, self.live())
        if stored:
            self.at = self._now()
        if answered:
            self.contest.wrote_child(self.body, self.live())


WRITES = st.lists(st.tuples(st.booleans(), st.booleans()).filter(lambda one: one[0] or not one[1]), max_size=30)


@given(WRITES)
@example([(True, False)] * 4)
def test_a_write_of_which_the_answer_was_lost_is_not_another_operators(writes: list[tuple[bool, bool]]) -> None:
    """As where the removal of others' fields, which follows the apply, conflicts with the Deployment controller."""
    child = Stored()
    for stored, answered in writes:
        child.write(stored=stored, answered=answered)
    assert not child.contest.lost(KEY)
