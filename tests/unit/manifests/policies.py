"""What a network plugin makes of NetworkPolicies (networking.k8s.io/v1, ingress): who reaches which port of a pod.

The development cluster's network enforces none, so tests ask this reader, written after the API's reference.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]
NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Endpoint:
    """A pod, or an address outside of the cluster where `namespace` is empty."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.244.0.9"
    ports: Mapping[str, int] = field(default_factory=dict)

    def number(self, port: str | int) -> int | None:
        """The number of a port that a policy names."""
        return port if isinstance(port, int) else self.ports.get(port)


def pod(namespace: str, template: JSON, address: str = "10.244.0.8") -> Endpoint:
    """A pod of a template."""
    ports = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports") or []
    }
    return Endpoint(namespace, template["metadata"]["labels"], address, ports)


def selects(selector: JSON, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches."""
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _holds(entry, labels) for entry in selector.get("matchExpressions") or []
    )


def _holds(entry: JSON, labels: Mapping[str, str]) -> bool:
    there, value = entry["key"] in labels, labels.get(entry["key"])
    return {
        "In": there and value in (entry.get("values") or []),
        "NotIn": not there or value not in (entry.get("values") or []),
        "Exists": there,
        "DoesNotExist": not there,
    }[str(entry["operator"])]


def reaches(policies: Iterable[JSON], source: Endpoint, target: Endpoint, port: int) -> bool:
    """Whether a connection gets through."""
    isolating = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and selects(policy["spec"]["podSelector"], target.labels)
        and "Ingress" in policy["spec"]["policyTypes"]
    ]
    rules = [(policy, rule) for policy in isolating for rule in policy["spec"].get("ingress") or []]
    return not isolating or any(_admits(rule, policy, source, target, port) for policy, rule in rules)


def _admits(rule: JSON, policy: JSON, source: Endpoint, target: Endpoint, port: int) -> bool:
    ports, peers = rule.get("ports"), rule.get("from")
    if ports and not any(target.number(entry["port"]) == port for entry in ports):
        return False
    # A rule without peers admits everybody.
    return not peers or any(_is(peer, policy["metadata"]["namespace"], source) for peer in peers)


def _is(peer: JSON, home: str, source: Endpoint) -> bool:
    assert peer, "the API server refuses an empty peer"
    if "ipBlock" in peer:
        assert set(peer) == {"ipBlock"}
        address = ipaddress.ip_address(source.address)
        inside = address in ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in peer["ipBlock"].get("except") or [])
    if not source.namespace:
        return False
    space = peer.get("namespaceSelector")
    there = source.namespace == home if space is None else selects(space, {NAMESPACE_NAME: source.namespace})
    return there and selects(peer.get("podSelector") or {}, source.labels)
