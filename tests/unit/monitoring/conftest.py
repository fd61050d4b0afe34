"""The real promtool, from Debian's package; it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster.debian import unpacked


@pytest.fixture(scope="session")
def promtool() -> Path:
    return unpacked("prometheus", "usr/bin/promtool") / "usr" / "bin" / "promtool"
