"""Everything that is applied for the examples and for public users' manifests, word by word.

A change of a template of an object that says nothing new would restart engines at an upgrade.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llm_operator.api.resource import LLMDeployment
from tests.support.rendered import children_of, jobs_of, manifests, revision_of

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", manifests())
def test_what_is_applied_is_as_it_was(name: str) -> None:
    document = manifests()[name]
    document["metadata"]["uid"] = "uid-of-object"
    resource = LLMDeployment.parse(document)
    children = children_of(resource)
    kept = revision_of(resource, children[0]["spec"]["template"])
    text = json.dumps([*children, *jobs_of(resource), kept], indent=1) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("LLM_OPERATOR_WRITE_GOLDEN") == "yes":
        path.write_text(text)
    assert text == path.read_text(), "meant? then LLM_OPERATOR_WRITE_GOLDEN=yes, and look at the difference"


def test_every_golden_file_has_its_object() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(manifests())
