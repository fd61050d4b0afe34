"""Parameters as authors publish them, in thousand millions, mostly of models that transformers has no class for.

MiniCPM-o's and Phi-4's are without what speaks and the adapters, which engines do not load.
"""

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
    assert parse_config(config).parameters / 1e9 == pytest.approx(published, rel=0.003)
