"""How the chat page fares. Pure. The object is Ready without it: an engine serves whether or not its page does."""

from __future__ import annotations

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.live.children import Child, workload_in
from llm_operator.live.pods import Pod
from llm_operator.live.trouble import waiting_trouble
from llm_operator.manifests.chat_page import page_endpoint, page_replicas
from llm_operator.problems import Check, Problem, first
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.workload import counts_of, workload_of


def page_findings(resource: LLMDeployment, observed: Observed, blocked: Problem | None) -> tuple[Finding, ...]:
    """The condition WebUIReady; none for an object without a page, once nothing of an earlier page is left.

    Args:
        resource: the object.
        observed: what is seen of it.
        blocked: a write of the page, or its deletion, that the API server refused.
    """
    if resource.spec.web_ui is None and blocked is None:
        return ()
    return (_finding(resource, observed, blocked),)


def _finding(resource: LLMDeployment, observed: Observed, blocked: Problem | None) -> Finding:
    if blocked is not None:
        return Finding("WebUIReady", "False", blocked.reason, blocked.text)
    child = workload_in(observed.children, "chat")
    if page_replicas(resource.spec) == 0:
        field = "replicas" if resource.spec.replicas == 0 else "webUI.replicas"
        return Finding("WebUIReady", "False", "Stopped", f"the page is stopped: spec.{field} is 0")
    if child is None:
        return Finding("WebUIReady", "Unknown", "WaitingForEngine", "the page starts with the engine")
    counts = counts_of(child)
    if counts.seen and counts.ready > 0:
        return Finding("WebUIReady", "True", "Serving", f"the page is at {page_endpoint(resource)} in the cluster")
    return _starting(child, observed)


def _starting(child: Child, observed: Observed) -> Finding:
    """While no pod of the page serves: what keeps it."""
    refused = workload_of(child).refused(child)
    if refused is not None:
        return Finding("WebUIReady", "False", refused.reason, refused.text)
    ill = (pod for pod in observed.chat_pods if not pod.deleting and not pod.ready)
    trouble = next((found for pod in ill if (found := first(OF_POD, pod)) is not None), None)
    if trouble is not None:
        return Finding("WebUIReady", "False", trouble.reason, trouble.text)
    return Finding("WebUIReady", "Unknown", "Starting", "the page starts")


def _waits(pod: Pod) -> Problem | None:
    return waiting_trouble(pod, "the chat page's image", "spec.webUI.image")


def _ended(pod: Pod) -> Problem | None:
    if pod.end is None or pod.restarts == 0:
        return None
    last = pod.end.message.strip().splitlines()
    why = f": {last[-1]}" if last else ""
    return Problem("PageFailed", f"the page ended with exit code {pod.end.exit_code}{why}", "Warning")


OF_POD: tuple[Check[Pod], ...] = (_waits, _ended)
"""Why a pod of the page does not serve."""
