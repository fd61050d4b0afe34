"""What is also wrong with a manifest whose first errors hide it: rules across fields, and what the engine refuses.

A rule is checked only once each of its fields is valid, by the API server too. Here the invalid fields are left out and
the rest is checked again. What an absent field may have caused is not reported.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from llm_operator.api.base import VALIDATIONS
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.api.schema import structural
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import check

Errors = list[tuple[str, str]]
ROUNDS = 8
"""Each leaves out what the one before found."""


def further(document: Mapping[str, Any], known: Errors) -> Errors:
    """Field and problem of what the errors that are known hide.

    Args:
        document: a manifest, with a mapping as its spec.
        known: its errors, as LLMDeployment.parse() gives them.
    """
    rest = {**document, "metadata": {"name": "unnamed"}, "spec": copy.deepcopy(document["spec"])}
    found: Errors = []
    errors, absent = known, set[str]()
    for _ in range(ROUNDS):
        gone = {name for field, _ in errors if (name := _left_out(rest, field)) is not None}
        absent |= gone
        try:
            resource = LLMDeployment.parse(rest)
        except InvalidResource as invalid:
            errors = invalid.errors
            found += [error for error in errors if error not in known + found and _sure(error[1], absent)]
            if not gone:
                return found
            continue
        if not any(field.startswith("spec.engine") for field, _ in known):
            found += [(refusal.field, refusal.message) for refusal in check(resource.spec)]
        return found
    return found


def _left_out(document: dict[str, Any], field: str) -> str | None:
    """Remove a field, or the list that holds it; its name, or None if it is not there."""
    *above, name = field.partition("[")[0].split(".")
    value: Any = document
    for part in above:
        value = value.get(part) if isinstance(value, dict) else None
    if above[:1] == ["spec"] and isinstance(value, dict) and name in value:
        del value[name]
        return name
    return None


def _sure(message: str, absent: set[str]) -> bool:
    """Whether a problem is a broken rule that says nothing of what was left out."""
    rule = _rules().get(message)
    return rule is not None and not absent & set(re.findall(r"\w+", rule))


@cache
def _rules() -> dict[str, str]:
    """The rules across fields: message to expression."""
    return {rule["message"]: rule["rule"] for rule in _walk(structural(LLMDeploymentSpec))}


def _walk(schema: Any) -> Iterator[Mapping[str, str]]:
    if isinstance(schema, list):
        for entry in schema:
            yield from _walk(entry)
    elif isinstance(schema, dict):
        for rule in schema.get(VALIDATIONS) or ():
            if isinstance(rule, dict) and "message" in rule:
                yield rule
        for entry in schema.values():
            yield from _walk(entry)
