"""Restoring fields that others set: at once, then ever more slowly; a write in vain is not repeated."""

from __future__ import annotations

import copy
from typing import Any, cast

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.restoring import FIRST_WAIT_SECONDS, FREE_RESTORATIONS, LONGEST_WAIT_SECONDS, Restoring
from llm_operator.live.children import child_from
from llm_operator.reconcile.decision import Apply

JSON = dict[str, Any]
OURS = {"manager": "llm-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
THEIRS = {"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:extra": {}}}}
BODY: JSON = {"kind": "Deployment", "metadata": {"name": "demo", "namespace": "a"}, "spec": {"replicas": 2}}


class FakeApi:
    """Removes what a JSON patch says, or refuses."""

    def __init__(self, refusal: ApiError | None = None) -> None:
        self.refusal = refusal
        self.patches = 0

    async def patch(
        self, kind: str, namespace: str, name: str, operations: list[JSON], *, dry_run: bool = False
    ) -> JSON:
        self.patches += 1
        if self.refusal is not None:
            raise self.refusal
        answer = stored(BODY["spec"])
        answer["metadata"]["managedFields"] = [OURS]
        return answer


def stored(spec: JSON, *entries: JSON) -> JSON:
    meta = {**BODY["metadata"], "uid": "u", "resourceVersion": "1", "managedFields": list(entries)}
    return {"kind": "Deployment", "metadata": meta, "spec": copy.deepcopy(spec)}


def apply_to(live: JSON, **spec: Any) -> Apply:
    return Apply({**BODY, "spec": {**BODY["spec"], **spec}}, seen=True, live=child_from(live))


def made(api: FakeApi, times: list[float]) -> Restoring:
    return Restoring(cast("ApiClient", api), lambda: times[-1])


async def test_a_field_that_comes_back_is_restored_ever_more_slowly() -> None:
    api, times = FakeApi(), [0.0]
    restoring = made(api, times)
    drifted = stored({"replicas": 2, "extra": 1}, OURS, THEIRS)
    for _ in range(FREE_RESTORATIONS):
        assert restoring.held(apply_to(drifted)) is None
        written = await restoring.written(apply_to(drifted), drifted)
        assert ([one.path for one in written.undone], written.drift) == (["spec.extra"], None)
    held = restoring.held(apply_to(drifted))
    assert held is not None
    assert held.seconds == FIRST_WAIT_SECONDS
    assert "spec.extra (manager other)" in held.drift.message
    # Another spec, or another field, is written at once.
    assert restoring.held(apply_to(drifted, replicas=3)) is None
    other = {**THEIRS, "fieldsV1": {"f:spec": {"f:extra": {}, "f:more": {}}}}
    assert restoring.held(apply_to(stored({"replicas": 2, "extra": 1, "more": 1}, OURS, other))) is None
    waits = []
    for _ in range(10):
        held = restoring.held(apply_to(drifted))
        assert held is not None
        assert held.seconds is not None
        waits.append(held.seconds)
        times.append(times[-1] + held.seconds)
        assert restoring.held(apply_to(drifted)) is None
        await restoring.written(apply_to(drifted), drifted)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_SECONDS


async def test_a_refused_removal_is_told_and_not_repeated() -> None:
    api = FakeApi(ApiError(422, "Invalid", "may not be removed"))
    restoring = made(api, [0.0])
    drifted = stored({"replicas": 2, "extra": 1}, OURS, THEIRS)
    written = await restoring.written(apply_to(drifted), drifted)
    assert written.undone == ()
    assert written.drift is not None
    assert (written.drift.reason, "may not be removed" in written.drift.message) == ("ForeignFields", True)
    held = restoring.held(apply_to(drifted))
    assert held is not None
    assert (held.drift, held.seconds) == (written.drift, None)
    # As soon as anything is different, it is tried again.
    assert restoring.held(apply_to(drifted, replicas=3)) is None


async def test_what_a_webhook_changes_is_written_once() -> None:
    restoring = made(FakeApi(), [0.0])
    changed = stored({"replicas": 5}, OURS)
    written = await restoring.written(apply_to(changed), changed)
    assert written.drift is not None
    assert (written.drift.reason, "spec.replicas" in written.drift.message) == ("ChangedOnAdmission", True)
    assert restoring.held(apply_to(changed)) is not None
    assert restoring.held(apply_to(stored({"replicas": 6}, OURS))) is None
