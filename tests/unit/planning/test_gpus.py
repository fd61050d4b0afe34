"""GPUs by name, by node labels and by hand."""

from __future__ import annotations

import pytest

from llm_operator.planning import (
    PlanInputError,
    UnknownGpuError,
    gpu_by_name,
    gpus_from_node,
    known_gpus,
    parse_gpu,
    parse_gpu_memory,
    parse_quantity,
)

MIB = 1 << 20


def labels(product: str, memory: int, capability: str = "8.6", count: int = 2, **more: str) -> dict[str, str]:
    major, minor = capability.split(".")
    return {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
    } | more


def test_every_known_gpu_has_a_source_a_capability_and_less_memory_than_its_box_says() -> None:
    assert len(known_gpus()) >= 30
    for gpu in known_gpus():
        assert gpu.source
        assert gpu.compute_capability is not None
        assert 9 << 30 < gpu.memory_bytes < 300 << 30
        assert gpu_by_name(gpu.product) == gpu


def test_the_measured_card_is_exact() -> None:
    assert gpu_by_name("NVIDIA-H200").memory_bytes == 150_109_880_320


@pytest.mark.parametrize("name", ["NVIDIA-RTX-A6000", "nvidia rtx a6000", "RTX-A6000", " RTX_A6000"])
def test_spelling_of_names_is_forgiven(name: str) -> None:
    assert gpu_by_name(name).product == "NVIDIA-RTX-A6000"


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownGpuError, match="NVIDIA-RTX-A6000") as caught:
        gpu_by_name("A6000")
    assert "NVIDIA-RTX-A6000" in caught.value.nearest
    with pytest.raises(UnknownGpuError):
        gpu_by_name("")


def test_product_and_count() -> None:
    assert parse_gpu("NVIDIA-RTX-A6000:2").count == 2
    assert parse_gpu("NVIDIA-L4").count == 1
    for wrong in ("NVIDIA-L4:0", "NVIDIA-L4:x", "NVIDIA-L4:-1", "NVIDIA-L4:99999"):
        with pytest.raises(PlanInputError):
            parse_gpu(wrong)


def test_a_size_that_is_nearly_one_is_offered() -> None:
    with pytest.raises(PlanInputError, match="did you mean 48Gi"):
        parse_gpu_memory("48GB")


def test_memory_by_hand() -> None:
    gpu = parse_gpu_memory("48Gi:4", "9.0")
    assert (gpu.memory_bytes, gpu.count, gpu.compute_capability) == (48 << 30, 4, (9, 0))
    assert parse_gpu_memory("51527024640").memory_bytes == 51_527_024_640
    with pytest.raises(PlanInputError, match="compute capability"):
        parse_gpu_memory("48Gi", "nine")


@pytest.mark.parametrize(
    ("text", "value"), [("1Ki", 1024), ("2G", 2 * 10**9), ("1.5Gi", 3 << 29), ("7", 7), ("0.5", 1), ("1k", 1000)]
)
def test_quantities(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "-1", "Gi", "48GiB", "48 Gi", "1e9", "1.2.3", "٣Gi", "nan"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(PlanInputError, match="is not a valid size"):
        parse_quantity(text)


def test_node_labels_of_a_known_product() -> None:
    gpu = gpus_from_node(labels("NVIDIA-RTX-A6000", 49140), {"nvidia.com/gpu": "2"})
    assert gpu is not None
    assert (gpu.product, gpu.count, gpu.compute_capability) == ("NVIDIA-RTX-A6000", 2, (8, 6))
    assert gpu.memory_bytes == gpu_by_name("NVIDIA-RTX-A6000").memory_bytes


def test_node_labels_of_an_unknown_product_lose_what_a_driver_keeps() -> None:
    gpu = gpus_from_node(labels("NVIDIA-Z9", 50000, "11.0"), {"nvidia.com/gpu": "8"})
    assert gpu is not None
    assert gpu.memory_bytes == (50000 - 640) * MIB
    assert "nvidia.com/gpu.memory" in gpu.source


def test_a_label_that_contradicts_the_catalogue_wins() -> None:
    gpu = gpus_from_node(labels("NVIDIA-RTX-A6000", 24000), {"nvidia.com/gpu": "1"})
    assert gpu is not None
    assert gpu.memory_bytes == (24000 - 640) * MIB


def test_mig_instances_serve_alone() -> None:
    single = labels("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 40192, "8.0", 14)
    gpu = gpus_from_node(single, {"nvidia.com/gpu": "14"})
    assert gpu is not None
    assert gpu.count == 1
    assert gpu.memory_bytes < 40192 * MIB
    mixed = {
        "nvidia.com/mig-1g.10gb.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
        "nvidia.com/mig-1g.10gb.memory": "9728",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "0",
    }
    gpu = gpus_from_node(mixed, {"nvidia.com/mig-1g.10gb": "7"}, "nvidia.com/mig-1g.10gb")
    assert gpu is not None
    assert (gpu.count, gpu.compute_capability) == (1, (8, 0))
    assert gpu.memory_bytes == (9728 - 9728 // 50) * MIB


def test_gpus_shared_in_time_count_once() -> None:
    shared = labels("NVIDIA-L4-SHARED", 23034, "8.9", 2) | {"nvidia.com/gpu.replicas": "4"}
    gpu = gpus_from_node(shared, {"nvidia.com/gpu": "8"})
    assert gpu is not None
    assert gpu.count == 2


@pytest.mark.parametrize(
    ("given", "allocatable"),
    [
        ({}, {"nvidia.com/gpu": "2"}),
        (labels("NVIDIA-Z9", 0), {"nvidia.com/gpu": "2"}),
        (labels("NVIDIA-L4", 23034), {}),
    ],
)
def test_nodes_that_tell_nothing_are_no_gpus(given: dict[str, str], allocatable: dict[str, str]) -> None:
    assert gpus_from_node(given, allocatable) is None
