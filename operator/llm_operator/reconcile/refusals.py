"""Why a spec is not rendered: chains of checks, each of everything that is wrong with one part. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import check
from llm_operator.manifests.overlay import check_overlay
from llm_operator.manifests.restart import check_restart
from llm_operator.problems import Checks, Problem, wrong_field
from llm_operator.settings import ToolSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object whose spec is about to be rendered, and the operator's settings."""

    resource: LLMDeployment
    tools: ToolSettings


def _restart(of: Candidate) -> Iterable[Problem]:
    return check_restart(of.resource)


def _namespace(of: Candidate) -> Iterable[Problem]:
    """Objects beside the operator could use its ServiceAccount, whose rights are those of all namespaces it serves."""
    home = of.tools.home
    if home and of.resource.metadata.namespace == home:
        text = (
            f"the operator runs in namespace {home} and serves others too, so that its own token is in reach of pods "
            "there: create the object in another namespace"
        )
        yield wrong_field("OperatorsNamespace", "metadata.namespace", text)


def _engine(of: Candidate) -> Iterable[Problem]:
    return check(of.resource.spec)


def _engine_overlay(of: Candidate) -> Iterable[Problem]:
    return check_overlay(of.resource.spec, "engine")


def _tool_overlay(of: Candidate) -> Iterable[Problem]:
    return check_overlay(of.resource.spec, "tool")


def _page_overlay(of: Candidate) -> Iterable[Problem]:
    return check_overlay(of.resource.spec, "chat")


OF_REQUEST: tuple[Checks[Candidate], ...] = (_restart,)
"""Of a request beside the spec; while it stands, the rest of the object is not looked at."""
OF_KEPT: tuple[Checks[Candidate], ...] = (_tool_overlay,)
"""Of an object whose engine runs with these inputs: what was accepted once is not refused by a newer operator."""
OF_NEW: tuple[Checks[Candidate], ...] = (_namespace, _engine, _engine_overlay, _tool_overlay)
"""Of inputs that nothing runs yet."""
OF_PAGE: tuple[Checks[Candidate], ...] = (_page_overlay,)
"""Of the chat page; the engine runs all the same."""


def too_large(excess_bytes: int) -> Problem:
    """A pod template that the API server cannot store."""
    text = (
        f"the pods' template is {excess_bytes:,} bytes longer than the API server can store: shorten spec.engine.env "
        "and spec.podTemplate, for example with a ConfigMap that spec.podTemplate mounts"
    )
    return wrong_field("SpecTooLarge", "spec", text)
