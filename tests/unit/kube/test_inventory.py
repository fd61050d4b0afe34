"""Nodes without GPUs are not read: a cluster has thousands of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from llm_operator.kube.inventory import Inventory
from llm_operator.planning import gpu_node_selectors, gpus_from_node

MIG = "nvidia.com/mig-1g.10gb"


def matches(selector: str, labels: dict[str, str]) -> bool:
    """As the API server: a label exists, or, with an exclamation mark, it does not."""
    return all((part.removeprefix("!") in labels) != part.startswith("!") for part in selector.split(","))


class Nodes:
    """Stands in for the API client: it selects by label as the API server does."""

    def __init__(self, *labels: dict[str, str]) -> None:
        self.labels = labels
        self.read = 0

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> AsyncIterator[dict[str, Any]]:
        assert (kind, namespace) == ("Node", None)
        assert selector, "every node of the cluster"
        for labels in self.labels:
            if matches(selector, labels):
                self.read += 1
                yield {"metadata": {"labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": "8", MIG: "7"}}}


def labelled(prefix: str = "nvidia.com/gpu", **values: str) -> dict[str, str]:
    return {"kubernetes.io/os": "linux", **{f"{prefix}.{name}": value for name, value in values.items()}}


KINDS = (
    labelled(product="NVIDIA-H100-80GB-HBM3", memory="81559", count="8"),
    labelled(product="NVIDIA-H100-80GB-HBM3"),
    labelled(memory="49140"),
    labelled(MIG, product="NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", memory="9984"),
    labelled(),
    labelled(count="8"),
)


async def test_only_labelled_nodes_are_read() -> None:
    nodes = Nodes(*KINDS, *([labelled()] * 1000))
    inventory = Inventory(nodes, lambda: None)  # type: ignore[arg-type]
    await inventory.refresh(frozenset({"nvidia.com/gpu", MIG}))
    assert nodes.read == 4
    assert {resource for resource, _ in inventory.gpus} == {"nvidia.com/gpu", MIG}


def test_no_node_that_says_something_is_left_out() -> None:
    allocatable = {"nvidia.com/gpu": "8", MIG: "7"}
    for resource in ("nvidia.com/gpu", MIG, "example.com/gpu"):
        for labels in KINDS:
            if gpus_from_node(labels, {**allocatable, "example.com/gpu": "1"}, resource) is not None:
                assert any(matches(selector, labels) for selector in gpu_node_selectors(resource)), labels
