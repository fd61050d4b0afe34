"""Which GPUs there are: a catalogue by name, node labels of GPU feature discovery, and sizes given by hand."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from llm_operator.api import quantity
from llm_operator.foreign import natural_number
from llm_operator.memory.types import MIB, GpuFacts, PlanInputError, gib

DEFAULT_RESOURCE = "nvidia.com/gpu"
MIG_RESOURCE = "nvidia.com/mig-"
# What a driver keeps of the memory that NVML and the node label report (H200: 615 MiB).
KEPT_MEBIBYTES = 640
KEPT_TENTHS_OF_PERMILLE = 45
MOST_GPUS = 1024

CAPABILITY = re.compile(r"([0-9]{1,2})\.([0-9])")


class UnknownGpuError(PlanInputError):
    """A GPU name that the catalogue lacks. nearest: similar names it has."""

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        self.name = name
        self.nearest = nearest
        hint = f"; similar names: {', '.join(nearest)}" if nearest else ""
        shown = repr(name) if name.strip() else "name, which is empty,"
        super().__init__(f"GPU {shown} is not in the catalogue{hint}; for any other GPU give its memory, such as 48Gi")


@dataclass(frozen=True, slots=True)
class _Entry:
    gpu: GpuFacts
    nvml_mebibytes: int


@cache
def _catalogue() -> Mapping[str, _Entry]:
    """Return the entries by simplified name; the file is part of the package."""
    content = json.loads(  # noqa: TID251 - the package's own data
        resources.files("llm_operator.planning").joinpath("gpus.json").read_text("utf-8")
    )
    entries = {}
    for row in content["gpus"]:
        gpu = GpuFacts(row["product"], row["cudaBytes"], _capability(row["computeCapability"]), source=row["source"])
        for name in (row["product"], *row["aliases"]):
            entries[_simplified(name)] = _Entry(gpu, row["nvmlMebibytes"])
    return entries


def known_gpus() -> tuple[GpuFacts, ...]:
    """Return every GPU of the catalogue once, by name, with count 1."""
    unique = {entry.gpu.product: entry.gpu for entry in _catalogue().values()}
    return tuple(unique[name] for name in sorted(unique))


def gpu_by_name(name: str, count: int = 1) -> GpuFacts:
    """Return the GPU of that product name, spelled as the node label or nearly so.

    Case, spaces and the maker's name do not matter. Raises UnknownGpuError with the nearest names.
    """
    entries = _catalogue()
    simple = _simplified(name)
    entry = entries.get(simple)
    if entry is None:
        close = difflib.get_close_matches(simple, entries, n=5, cutoff=0.5)
        inside = [key for key in entries if simple and (simple in key or key in simple)]
        words = set(simple.split("-"))
        exact = [key for key in entries if words <= set(key.split("-"))]
        nearest = dict.fromkeys(entries[key].gpu.product for key in exact or (*inside, *close))
        raise UnknownGpuError(name[:120], tuple(nearest)[:5])
    return replace(entry.gpu, count=checked_count(count))


def parse_gpu(text: str) -> GpuFacts:
    """Return the GPUs that PRODUCT or PRODUCT:COUNT names; a part of the name will do where only one has it.

    Raises UnknownGpuError, PlanInputError.
    """
    name, count = _with_count(text)
    return gpu_by_name(_completed(name), count)


def _completed(name: str) -> str:
    """Return the one product whose name has all the words of `name`, such as A6000 or 3090; else `name` itself.

    For command lines only: a node's label must be given in full.
    """
    simple = _simplified(re.sub(r"(?i)\b(rtx|gtx)(?=[0-9a])", r"\1 ", name))
    entries = _catalogue()
    words = set(simple.split("-"))
    if simple in entries or not any(re.search(r"[0-9]", word) for word in words):
        return simple if simple in entries else name
    found = {entry.gpu.product: set(key.split("-")) for key, entry in entries.items() if words <= set(key.split("-"))}
    # 3090 is the one without Ti: its name says no more than every other one.
    plain = [product for product, own in found.items() if all(own <= other for other in found.values())]
    if len(plain) == 1:
        return plain[0]
    # Cards that differ in their cooling alone are planned alike.
    facts = {
        (entries[_simplified(product)].gpu.memory_bytes, entries[_simplified(product)].gpu.compute_capability)
        for product in found
    }
    return min(found) if len(facts) == 1 else name


def parse_gpu_memory(text: str, compute_capability: str | None = None) -> GpuFacts:
    """Return GPUs of MEMORY or MEMORY:COUNT, memory as a Kubernetes quantity (48Gi, 51527024640); of any make.

    compute_capability: "9.0"; None: unknown. Raises PlanInputError.
    """
    size, count = _with_count(text)
    memory = parse_quantity(size)
    capability = None if compute_capability is None else _capability(compute_capability)
    return GpuFacts(f"GPU of {size}", memory, capability, count, "given by hand")


def gpu_node_selectors(resource: str) -> tuple[str, ...]:
    """Label selectors of the nodes of which `gpus_from_node` may know something: a cluster has many others."""
    prefix = resource if resource.startswith(MIG_RESOURCE) else DEFAULT_RESOURCE
    return f"{prefix}.product", f"{prefix}.memory,!{prefix}.product"


def gpus_from_node(
    labels: Mapping[str, str], allocatable: Mapping[str, str], resource: str = DEFAULT_RESOURCE
) -> GpuFacts | None:
    """Return the GPUs that `resource` counts on a node; None if its labels do not say their memory.

    Labels are those of NVIDIA's GPU feature discovery; a MIG resource has its own labels, and no two MIG instances
    can serve one replica, so their count is 1. The catalogue's total is used where it knows the product and agrees
    with the label; otherwise the label's less what a driver keeps.
    """
    mig = resource.startswith(MIG_RESOURCE)
    prefix = resource if mig else DEFAULT_RESOURCE
    product = labels.get(f"{prefix}.product", "")
    label = labels.get(f"{prefix}.memory", "")
    memory = natural_number(label, 11) or 0
    entry = _catalogue().get(_simplified(product))
    if memory <= 0:
        if entry is None:
            return None
        total, source = entry.gpu.memory_bytes, entry.gpu.source
    elif entry is not None and abs(memory - entry.nvml_mebibytes) <= KEPT_MEBIBYTES:
        total, source = entry.gpu.memory_bytes, entry.gpu.source
    else:
        kept = max(KEPT_MEBIBYTES, memory * KEPT_TENTHS_OF_PERMILLE // 10_000) if not mig else memory // 50
        total, source = (memory - kept) * MIB, f"node label {prefix}.memory less {kept} MiB that drivers keep"
    if total <= 0:
        return None
    one_instance = mig or "-MIG-" in product
    count = 1 if one_instance else _count(labels, allocatable, resource)
    if count < 1:
        return None
    capability = _label_capability(labels) or (entry.gpu.compute_capability if entry else None)
    return GpuFacts(product or "GPU", total, capability, count, source)


def corrected(gpu: GpuFacts, field: str) -> GpuFacts:
    """Return the GPU with the catalogue's memory where more was given than a card of its product has, and a note.

    field: where the memory was given, for the note.
    """
    entry = _catalogue().get(_simplified(gpu.product))
    if entry is None or gpu.memory_bytes <= entry.gpu.memory_bytes:
        return gpu
    most = entry.gpu.memory_bytes
    note = (
        f"{field} is {gib(gpu.memory_bytes)}, but programs get {gib(most)} of an {entry.gpu.product}: planned with that"
    )
    return replace(gpu, memory_bytes=most, source=entry.gpu.source, note=note)


def parse_quantity(text: str) -> int:
    """Return a Kubernetes quantity in bytes, rounded up. Raises PlanInputError if it is not one."""
    try:
        return math.ceil(quantity.parse_quantity(text.strip()))
    except ValueError as error:
        spelled = re.fullmatch(r"([0-9]{1,9})\s*([kmgtp])i?b?", text.strip().lower())
        hint = f" (did you mean {spelled[1]}{spelled[2].upper()}i?)" if spelled else ""
        wrong = f"memory {text[:40]!r} is not a valid size{hint}; expected bytes or a quantity such as 48Gi or 24576Mi"
        raise PlanInputError(wrong) from error


def checked_count(count: int) -> int:
    """Return `count`. Raises PlanInputError if it is not a number of GPUs of a node."""
    if not 1 <= count <= MOST_GPUS:
        raise PlanInputError(f"GPU count is {count:,}; expected 1 to {MOST_GPUS:,}")
    return count


def _with_count(text: str) -> tuple[str, int]:
    name, colon, number = text.strip().rpartition(":")
    if not colon:
        return number, 1
    count = natural_number(number, 6)
    if re.fullmatch(r"[0-9]+", number) is None:
        what = (
            f"GPU count {number[:20]!r} in {text[:60]!r} is not" if number else f"{text[:60]!r} ends with a colon, not"
        )
        raise PlanInputError(f"{what} a whole number from 1 to {MOST_GPUS:,}; expected, for example, NVIDIA-L4:2")
    if count is None:
        raise PlanInputError(f"GPU count {number[:20]}... has {len(number):,} digits; expected 1 to {MOST_GPUS:,}")
    return name, checked_count(count)


def _count(labels: Mapping[str, str], allocatable: Mapping[str, str], resource: str) -> int:
    """Return physical GPUs that can be had: allocatable, or the label's where GPUs are shared in time."""
    value = allocatable.get(resource, "0")
    count = natural_number(value, 5) or 0
    physical = natural_number(labels.get(f"{DEFAULT_RESOURCE}.count", ""))
    replicas = labels.get(f"{DEFAULT_RESOURCE}.replicas", "1")
    if replicas not in ("", "1") and physical is not None:
        return min(count, physical)
    return count


def _label_capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    major = labels.get(f"{DEFAULT_RESOURCE}.compute.major", "")
    minor = labels.get(f"{DEFAULT_RESOURCE}.compute.minor", "")
    try:
        return _capability(f"{major}.{minor}")
    except PlanInputError:
        return None


def _capability(text: str) -> tuple[int, int]:
    match = CAPABILITY.fullmatch(text)
    if match is None:
        raise PlanInputError(f"compute capability {text[:20]!r} is none; expected such as 9.0")
    return int(match[1]), int(match[2])


def _simplified(name: str) -> str:
    parts = re.split(r"[^a-z0-9]+", name.lower())
    return "-".join(part for part in parts if part and part not in ("nvidia", "geforce", "tesla", "shared"))
