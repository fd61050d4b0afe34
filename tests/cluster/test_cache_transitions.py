"""A claim that was made for an object stays as it was made: changes that nothing would follow are refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from tests.cluster.helpers import Space
from tests.support.objects import llm

pytestmark = pytest.mark.cluster
numbers = itertools.count()


@pytest.fixture
def space(control_plane: ControlPlane) -> Space:
    return Space(control_plane, f"cache-{next(numbers)}")


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("size", "20Gi", "resize the PersistentVolumeClaim"),
        ("storageClassName", "fast", "cache.claimName"),
        ("accessMode", "ReadWriteMany", "cache.claimName"),
        ("retentionPolicy", "Retain", "metadata.ownerReferences"),
    ],
)
def test_a_change_is_refused_with_what_to_do_instead(space: Space, field: str, value: str, instead: str) -> None:
    space.create(llm("demo", cache={"size": "10Gi"}))
    with pytest.raises(ApiError) as refused:
        space.patch("demo", {"spec": {"cache": {field: value}}})
    assert refused.value.status == 422
    assert f"cache.{field} cannot change" in str(refused.value)
    assert instead in str(refused.value)


@pytest.mark.parametrize(
    "cache",
    [
        {"accessMode": "ReadWriteOnce", "retentionPolicy": "Delete"},
        {"size": None, "claimName": "models"},
        None,
    ],
    ids=["the default said", "another claim", "none"],
)
def test_what_changes_nothing_or_the_claim_as_a_whole_is_taken(space: Space, cache: dict[str, Any] | None) -> None:
    space.create(llm("demo", cache={"size": "10Gi"}))
    space.patch("demo", {"spec": {"cache": cache}})
    space.patch("demo", {"spec": {"replicas": 2}})
