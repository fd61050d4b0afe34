"""Kernels of experts that a user sets: they decide the padding of MXFP4 weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_operator.engines.vllm.command import expert_kernels_given
from llm_operator.memory.types import Adapters
from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, PlanRequest
from llm_operator.planning.weights import weight_bytes
from tests.support.engine_names import Engine
from tests.support.planning import GIB, config
from tests.unit.engines.test_vllm_batch import spec_of

MARLIN = {"name": "VLLM_MXFP4_USE_MARLIN", "value": "1"}
H100 = GpuFacts("NVIDIA-H100-80GB-HBM3", 85_028_765_696, (9, 0), 1)
ASKED = PlanRequest(parse_config(config("gpt-oss-120b")), Engine.VLLM, "0.20.2", H100, tensor=1)


@pytest.mark.parametrize(
    ("words", "variables", "version", "kernels"),
    [
        ([], [], "0.20.2", ""),
        (["--moe-backend=marlin"], [], "0.33.0", "marlin"),
        (["--moe-backend", "triton"], [MARLIN], "0.20.2", "triton"),
        (["--moe-backend=auto"], [MARLIN], "0.20.2", "marlin"),
        ([], [MARLIN | {"value": "0"}], "0.20.2", ""),
        ([], [MARLIN], "0.26.0", ""),
    ],
)
def test_what_is_asked_for(words: list[str], variables: list[dict[str, str]], version: str, kernels: str) -> None:
    engine = {"type": "VLLM", "version": version, "extraArgs": words, "env": variables}
    assert expert_kernels_given(spec_of(engine=engine)) == kernels


@pytest.mark.parametrize(
    ("change", "gib"),
    [
        ({}, 60.94),
        ({"expert_kernels": "marlin"}, 66.06),
        ({"expert_kernels": "marlin", "version": "0.33.0"}, 66.06),
        ({"adapters": Adapters(1, 16)}, 66.06),
        ({"adapters": Adapters(1, 16), "version": "0.33.0"}, 60.94),
        ({"adapters": Adapters(1, 16), "expert_kernels": "triton"}, 60.94),
    ],
)
def test_weights_are_padded_for_the_kernels(change: dict[str, object], gib: float) -> None:
    given = replace(ASKED, **change)  # type: ignore[arg-type]
    assert weight_bytes(given, 1).total / GIB == pytest.approx(gib, abs=0.005)
