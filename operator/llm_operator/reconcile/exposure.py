"""Whether anyone in the cluster may use an engine. Pure."""

from __future__ import annotations

from llm_operator.api.finding import Finding
from llm_operator.api.network import LabelSelector, NetworkPeer
from llm_operator.api.resource import LLMDeployment


def exposure_findings(resource: LLMDeployment, *, policed: bool) -> tuple[Finding, ...]:
    """The condition Exposed; there only while it holds.

    Args:
        resource: the object.
        policed: the operator makes NetworkPolicies.
    """
    if resource.spec.engine.api_key is not None:
        return ()
    if not policed:
        text = (
            "every pod of the cluster may use the engine: set spec.engine.apiKey, or networkPolicy.objects.enabled of "
            "the chart"
        )
        return (Finding("Exposed", "True", "NoAPIKey", text),)
    peers = enumerate(resource.spec.network.from_ or ())
    wide = next((place for place, peer in peers if _everybody(peer)), None)
    if wide is None:
        return ()
    text = f"spec.network.from[{wide}] lets everybody use the engine: name fewer peers, or set spec.engine.apiKey"
    return (Finding("Exposed", "True", "NoAPIKey", text),)


def _everybody(peer: NetworkPeer) -> bool:
    """Whether a peer is the whole cluster, or every address."""
    if peer.ip_block is not None:
        return peer.ip_block.cidr.endswith("/0")
    namespaces, pods = peer.namespace_selector, peer.pod_selector
    return namespaces == LabelSelector() and pods in (None, LabelSelector())
