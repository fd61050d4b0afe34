"""Who may lead, by what a Lease says: rules over time, and a search for two processes that lead at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.kube.election import LEASE_SECONDS, RELEASED_SECONDS, Election, Step
from llm_operator.kube.lease import RENEW_DEADLINE_SECONDS, RETRY_SECONDS

JSON = dict[str, Any]
OTHER: JSON = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "1", "acquireTime": "0"}
EDITS: list[JSON] = [
    {"renewTime": "0000-01-01T00:00:00.000000Z"},
    {"renewTime": "9999-12-31T23:59:59.999999Z"},
    {"renewTime": "2026-12-01T00:00:00.000000Z", "acquireTime": "2026-12-01T00:00:00.000000Z"},
    {"leaseDurationSeconds": 2**31 - 1},
    {"leaseDurationSeconds": RELEASED_SECONDS},
    {"leaseTransitions": 2**31 - 1},
    {"renewTime": None, "acquireTime": None, "leaseDurationSeconds": None},
]


def test_a_lease_that_nobody_has_held_is_taken_at_once() -> None:
    blank: list[JSON | None] = [None, {}]
    for spec in blank:
        assert Election("me").look(spec, 0.0, leading=False) is Step.WRITE


def test_one_that_was_given_up_is_taken_at_once() -> None:
    mine, yours = Election("me"), Election("you")
    held = mine.written({}, "1")
    assert yours.look(held, 0.0, leading=False) is Step.WAIT
    assert mine.released(OTHER, "2") is None
    left = mine.released(held, "2")
    assert left is not None
    assert yours.look(left, 0.1, leading=False) is Step.WRITE


def test_a_renewed_one_is_never_taken_and_a_dead_leaders_is() -> None:
    election = Election("me")
    for second in range(0, 100, 2):
        assert election.look({**OTHER, "renewTime": str(second)}, second, leading=False) is Step.WAIT
    last = {**OTHER, "renewTime": "98"}
    assert election.look(last, 98 + LEASE_SECONDS - 0.1, leading=False) is Step.WAIT
    assert election.look(last, 98 + LEASE_SECONDS, leading=False) is Step.WRITE


@pytest.mark.parametrize("spec", [None, {}, {**OTHER, "holderIdentity": ""}, {**OTHER, "holderIdentity": "me"}])
def test_an_edit_says_nothing_of_the_leader_of_a_moment_before(spec: JSON | None) -> None:
    """Deleted, replaced by the chart's, emptied, or with the candidate's own name written into it."""
    election = Election("me")
    assert election.look(OTHER, 0.0, leading=False) is Step.WAIT
    assert election.look(spec, 1.0, leading=False) is Step.WAIT
    assert election.look(spec, 1.0 + LEASE_SECONDS, leading=False) is Step.WRITE


def test_the_leader_goes_on_unless_another_is_named_or_the_lease_is_gone() -> None:
    election = Election("me")
    held = election.written({}, "1")
    for spec in ({}, held, {**held, "holderIdentity": ""}, {**held, "renewTime": None}):
        assert election.look(spec, 0.0, leading=True) is Step.WRITE
    for gone in (None, OTHER):
        assert election.look(gone, 0.0, leading=True) is Step.LOST


@pytest.mark.parametrize("edit", EDITS)
def test_absurd_times_and_durations_change_nothing(edit: JSON) -> None:
    mine, yours = Election("me"), Election("you")
    held = {**mine.written({}, "1"), **edit}
    assert mine.look(held, 0.0, leading=True) is Step.WRITE
    assert mine.written(held, "2")["leaseDurationSeconds"] == LEASE_SECONDS
    assert yours.look(held, 0.0, leading=False) is Step.WAIT
    assert yours.look(held, LEASE_SECONDS, leading=False) is Step.WRITE


def test_fields_that_are_not_the_elections_stay() -> None:
    spec = {**OTHER, "leaseTransitions": 7, "strategy": "OldestEmulationVersion"}
    written = Election("me").written(spec, "2")
    assert written == {**spec, "holderIdentity": "me", "leaseDurationSeconds": 15, "acquireTime": "2", "renewTime": "2"}
    assert Election("me").written({**written, "acquireTime": "1"}, "3")["acquireTime"] == "1"


class Process:
    """One candidate: looks now and then, leads until its deadline; its own clock starts anywhere."""

    def __init__(self, name: str, clock_ahead: float) -> None:
        self.name = name
        self.ahead = clock_ahead
        self.election = Election(name)
        self.renewed: float | None = None
        self.over = False

    def leads(self, now: float) -> bool:
        return not self.over and self.renewed is not None and now < self.renewed + RENEW_DEADLINE_SECONDS

    def turn(self, spec: JSON | None, now: float) -> JSON | None:
        """Look at the Lease and perhaps write it, as `Leadership` does; what is there afterwards."""
        if self.over or (self.renewed is not None and not self.leads(now)):
            self.over = True
            return spec
        step = self.election.look(spec, now + self.ahead, leading=self.renewed is not None)
        self.over = step is Step.LOST
        if step is not Step.WRITE:
            return spec
        self.renewed = now
        return self.election.written(spec, str(now))


EDIT = st.sampled_from(["delete", "empty", "clear", "touch", "nothing"])
TURN = st.tuples(st.sampled_from(["one", "two"]), st.floats(0.1, RETRY_SECONDS), EDIT)


@settings(max_examples=200, deadline=None)
@given(st.lists(TURN, max_size=60), st.floats(-1e6, 1e6))
def test_two_processes_that_see_each_other_never_lead_together(
    turns: list[tuple[str, float, str]], ahead: float
) -> None:
    """Whatever a person does to the Lease, short of naming a process or forging a release."""
    processes = {"one": Process("one", 0.0), "two": Process("two", ahead)}
    now, spec = 0.0, processes["one"].turn({}, 0.0)
    spec = processes["two"].turn(spec, now)
    for name, pause, edit in turns:
        now += pause
        match edit:
            case "delete":
                spec = None
            case "empty":
                spec = {} if spec is not None else None
            case "clear":
                spec = {**spec, "holderIdentity": ""} if spec else spec
            case "touch":
                spec = {**spec, "renewTime": f"by hand {now}"} if spec else spec
        spec = processes[name].turn(spec, now)
        assert sum(process.leads(now) for process in processes.values()) <= 1
