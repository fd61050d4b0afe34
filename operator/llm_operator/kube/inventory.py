"""The GPUs that the nodes' labels tell of, read now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.planning import GpuFacts, gpu_node_selectors, gpus_from_node

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.inventory")

REFRESH_SECONDS = 60.0
FAILED_SECONDS = 5.0
"""Pace at which nodes that could not be read are read again."""
MESSAGE_CHARACTERS = 300
PRODUCTS_SHOWN = 8
GPU_UNKNOWN = (
    "the GPU's memory is not known: label the nodes with GPU feature discovery, or set spec.gpu.memory, which replaces "
    "pods that run"
)


class Inventory:
    """GPU kinds in the cluster. Empty if nodes may not be read or carry no labels of GPU feature discovery."""

    def __init__(self, client: ApiClient, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._warned = False
        self.gpus: dict[tuple[str, str], GpuFacts] = {}
        """By resource name and product; the count is the largest of any node."""
        self.asked: frozenset[str] = frozenset()
        """Resource names that the nodes were looked at for; what is not among them is not known to be absent."""
        self.failure = ""
        """Why the nodes could not be read at the last attempt; empty if they could."""

    async def refresh(self, resources: frozenset[str]) -> None:
        """Read the nodes; tell when the inventory is another than before.

        Args:
            resources: extended resources that count GPUs, such as nvidia.com/gpu.
        """
        found: dict[tuple[str, str], GpuFacts] = {}
        try:
            for selector in sorted({one for resource in resources for one in gpu_node_selectors(resource)}):
                async for node in self._client.list("Node", None, selector):
                    _add(found, node, resources)
        except ApiError as error:
            if error.status != 403:
                raise
            if not self._warned:
                log.warning("nodes may not be read: plans need spec.gpu.memory (%s)", error.message)
                self._warned = True
        changed = found != self.gpus or not resources <= self.asked or self.failure != ""
        self.gpus, self.asked, self.failure = found, self.asked | resources, ""
        if changed:
            self._changed()

    def failed(self, message: str) -> None:
        """The nodes cannot be read now; what was read before stays."""
        before, self.failure = self.failure, message[:MESSAGE_CHARACTERS]
        if not before:
            self._changed()

    def of(self, resource: str, product: str | None) -> Fact[GpuFacts]:
        """The GPUs a pod could get; the smallest kind where several qualify, since the scheduler may choose it."""
        candidates = [
            facts for (name, kind), facts in self.gpus.items() if name == resource and product in (None, kind)
        ]
        best = min(candidates, key=lambda facts: (facts.memory_bytes, facts.count, facts.product), default=None)
        if best is not None:
            return Known(best)
        if resource in self.asked:
            return Unknowable("GPUUnknown", self._unknown(resource, product))
        if self.failure:
            return Pending("NodesUnreadable", f"the nodes cannot be read: {self.failure}", failed=True)
        return Pending("ReadingNodes", "reading the nodes' GPUs")

    def _unknown(self, resource: str, product: str | None) -> str:
        """Why the GPU is not known: which are there, and what to set."""
        return self.others(resource, product) or GPU_UNKNOWN

    def others(self, resource: str, product: str | None) -> str:
        """What the nodes have, if none has the GPU that is requested; empty otherwise."""
        products = sorted(kind for name, kind in self.gpus if name == resource)
        if product is None or not products or product in products:
            return ""
        shown = ", ".join(products[:PRODUCTS_SHOWN]) + (", ..." if len(products) > PRODUCTS_SHOWN else "")
        return f"no node has the GPU {product!r} of spec.gpu.product; the nodes have {shown}: set one of these"


def _add(found: dict[tuple[str, str], GpuFacts], node: JSON, resources: Iterable[str]) -> None:
    labels = node["metadata"].get("labels") or {}
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    for resource in resources:
        facts = gpus_from_node(labels, allocatable, resource)
        if facts is None:
            continue
        known = found.get((resource, facts.product))
        if known is None or facts.count > known.count:
            found[resource, facts.product] = facts
