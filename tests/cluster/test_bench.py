"""The benchmark's bare client writes what the operator writes; else `make bench` compares nothing."""

from __future__ import annotations

import pytest

from devcluster.control_plane import ControlPlane
from tests.bench.reconcile import measure

pytestmark = pytest.mark.cluster


async def test_both_sides_of_the_benchmark_write_the_same(control_plane: ControlPlane) -> None:
    row = await measure(control_plane, 2, warm=1, changes=1)
    assert row.writes_per_object > 0
    assert row.restart_writes == 0
