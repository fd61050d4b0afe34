"""Models whose repositories bring their own code: parameters as their authors publish them, in thousand millions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.models import parse_config

PUBLISHED: dict[str, tuple[float, dict[str, Any]]] = json.loads((Path(__file__).parent / "published.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_the_authors_publish(name: str) -> None:
    published, config = PUBLISHED[name]
    assert parse_config(config).parameters / 1e9 == pytest.approx(published, rel=0.002)
