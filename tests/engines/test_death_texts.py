# ruff: noqa: E501 - lines of logs are quoted whole
"""The texts behind the signatures of deaths that only one engine prints, against its sources of each tested version.

A fragment is one that the source has within one line. Texts that the engines take from elsewhere (CUDA, PyTorch, NCCL,
Triton, Ray, the hubs' clients) are not here; public reports quote those.
"""

from __future__ import annotations

import functools

import pytest

from llm_operator.engines.failures import diagnose
from llm_operator.engines.table import release
from tests.engines.environments import TESTED, interpreter, sources

VLLM, LMDEPLOY = "VLLM", "LMDeploy"
# Engine, fragment of the source, line of a log that has it, reason, first and last tested version; empty: all have it.
TEXTS = [
    (VLLM, "No available memory for the cache blocks", "ValueError: {}.", "KVCacheTooSmall", "", ""),
    (VLLM, "GiB KV ", "ValueError: (4.0 {}cache is needed, which is larger than the available KV cache memory", "ContextTooLong",
     "", ""),
    (VLLM, "on startup", "ValueError: Free memory on device cuda:0 (1.0/9.0 GiB) {} is less than desired GPU memory utilization",
     "GPUMemoryTaken", "", ""),
    (VLLM, "Error in memory profiling", "AssertionError: {}. Initial free memory 7 GiB", "GPUMemoryTaken", "", ""),
    (VLLM, "CUDA out of memory occurred when warming up", "RuntimeError: {} sampler with 7 dummy requests.", "GPUOutOfMemory", "", ""),
    (VLLM, "is out of bounds", "AssertionError: DP adjusted local rank 7 {}.", "NotEnoughGPUs", "", ""),
    (VLLM, "World size (", "ValueError: {}8) is larger than the number of available GPUs (4) in this node.", "NotEnoughGPUs", "", ""),
    (VLLM, "Bfloat16 is only supported on GPUs", "ValueError: {} with compute capability of at least 8.0.", "BFloat16NotSupported",
     "", ""),
    (VLLM, "must be divisible by tensor parallel size", "ValueError: Total number of attention heads (28) {} (8).",
     "TensorDoesNotDivide", "", ""),
    (VLLM, "is not divisible by weight quantization block_k", "ValueError: The input_size of down's weight = 192 {} = 128.",
     "TensorDoesNotDivide", "", ""),
    (VLLM, "is not aligned with the quantized weight shape", "ValueError: The input size {}.", "TensorDoesNotDivide", "", ""),
    (VLLM, "Quantization scheme is not supported for", "RuntimeError: ('{} ', 'the current GPU. Min capability: 80.')",
     "FormatNotSupportedByGPU", "", ""),
    (VLLM, "Marlin does not support weight_bits", "ValueError: {} = uint4b8.", "FormatNotSupportedByGPU", "", ""),
    (VLLM, "No valid attention backend found for", "ValueError: {} cuda with x. Reasons: {{}}.", "AttentionNotSupported", "", ""),
    (VLLM, "Failed to infer device type", "RuntimeError: {}, please", "NoGPU", "", ""),
    (VLLM, "invalid tool call parser", "KeyError: '{}: x (chose from {{}})'", "UnknownParser", "", ""),
    (VLLM, "is greater than the ", "  Value error, User-specified max_model_len (9) {}derived max_model_len (x=8)", "ContextAboveModel",
     "", ""),
    (VLLM, "The supplied chat template string (", "ValueError: {}/chat-template/template.jinja) appears path-like",
     "ChatTemplateMissing", "", ""),
    (VLLM, "appears to be a URI", "ValueError: VLLM_PORT 'tcp://10.0.0.1:80' {}.", "ServiceLinksClash", "", ""),
    (VLLM, "Chunked MM input disabled but", "ValueError: {} max_tokens_per_mm_item (7) is larger", "MultimodalTooLong", "", ""),
    (VLLM, "Cannot find the config file for", "ValueError: {} awq", "FormatMismatch", "", ""),
    (VLLM, "Following weights were not initialized from", "ValueError: {} checkpoint: {{'x'}}", "WeightsMissing", "", ""),
    (VLLM, "KeyboardInterrupt", "{}: terminated", "StartupTimeout", "", ""),
    (VLLM, "failed to be ", "ValueError: Model architectures ['X'] {}inspected.", "UnsupportedArchitecture", "", ""),
    (VLLM, "Failed core proc(s)", "RuntimeError: Engine core initialization failed. {}: {{}}", "EngineProcessDied", "", ""),
    (VLLM, "Engine core initialization failed", "RuntimeError: {}. See root cause above.", "EngineProcessDied", "", ""),
    (VLLM, "EngineCore encountered an issue", "EngineDeadError: {}.", "EngineDied", "", ""),
    (LMDEPLOY, "No enough gpu memory for runtime", "RuntimeError: {}.", "RuntimeMemoryTooSmall", "", ""),
    (LMDEPLOY, "No enough gpu memory for kv cache", "RuntimeError: {}.", "KVCacheTooSmall", "", ""),
    (LMDEPLOY, "no valid parallel config", "AssertionError: {}: dp=1, tp=2, available_devices=1", "NotEnoughGPUs", "0.18.0", ""),
    (LMDEPLOY, "invalid cache_max_entry_count", "AssertionError: {}", "InvalidKVCacheShare", "", ""),
    (LMDEPLOY, "invalid quant_policy", "AssertionError: {}", "UnsupportedKVQuantization", "", ""),
    (LMDEPLOY, "mismatched quant method: user input", 'AssertionError: {} "hf" vs model quant_config "awq"', "FormatMismatch", "", ""),
    (LMDEPLOY, "Can not found rewrite for architectures", "RuntimeError: {}: ['X']", "UnsupportedArchitecture", "", ""),
    (LMDEPLOY, "Could not find model architecture from config", "RuntimeError: {}: 7", "ModelConfigMissing", "", ""),
    (LMDEPLOY, "is not in the parser list", "ValueError: The reasoning parser x {}: 7", "UnknownParser", "", ""),
    (LMDEPLOY, "Multi-nodes support requires `ray`", "ImportError: {}", "RayMissing", "", ""),
    (LMDEPLOY, "PyTorch ZMQ engine process is not alive", "RPCServerDeadError: {}.", "EngineProcessDied", "0.14.0", ""),
    (LMDEPLOY, "chat template '", "AssertionError: {}/chat-template/template.json' is not registered.", "ChatTemplateMissing", "", ""),
    (LMDEPLOY, "> check failed!", "2025-05-23 14:13:23,916 - lmdeploy - ERROR - base.py:54 - <Triton{}", "CompileFailed", "", ""),
]  # fmt: skip


@functools.cache
def _source(engine: str, version: str) -> str:
    folder = sources(engine.lower(), version)
    if folder is None:
        (folder,) = (interpreter(engine.lower()).parents[1] / "lib").glob("python3.*/site-packages")
    package = folder / engine.lower()
    return "\n".join(path.read_text(errors="replace") for path in sorted(package.rglob("*.py")))


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text[1]))
def test_the_text_is_in_the_versions_that_are_named(text: tuple[str, str, str, str, str, str]) -> None:
    engine, fragment, _, _, first, last = text
    for version in TESTED[engine.lower()]:
        named = (not first or release(version) >= release(first)) and (not last or release(version) <= release(last))
        printed = fragment in _source(engine, version)
        assert printed == named, f"{engine} {version}"


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text[1]))
def test_the_text_gives_its_reason_for_every_version_that_prints_it(text: tuple[str, str, str, str, str, str]) -> None:
    engine, fragment, line, reason, first, last = text
    for version in TESTED[engine.lower()]:
        if (not first or release(version) >= release(first)) and (not last or release(version) <= release(last)):
            assert diagnose(engine, 1, None, line.format(fragment), version).reason == reason
