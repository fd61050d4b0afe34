"""What the operator reads of a running engine's capacity is what the engine's own code writes."""

from __future__ import annotations

import pytest

from llm_operator.engines.vllm.capacity import vllm_tokens, vllm_tokens_of_blocks
from tests.engines import environments
from tests.engines.worker import Worker

PER_TOKEN = 131_072
TELLS_TOKENS = {"0.20.2": False, "0.26.0": True, "0.33.0": True}
"""The first tells blocks only; others are asked."""


pytestmark = pytest.mark.parametrize(
    "worker", [("vllm", version) for version in environments.tested_versions("vllm")], ids="-".join, indirect=True
)


def _told(worker: Worker, cores: int, **fields: int) -> str:
    reply = worker.ask("cache_metrics", [str(cores), *(f"{name}={number}" for name, number in fields.items())])
    assert reply.error is None, reply.error
    text: str = reply.result
    assert "vllm:cache_config_info{" in text
    return text


@pytest.mark.parametrize("cores", [1, 2])
def test_tokens_are_read_where_the_version_tells_them(worker: Worker, cores: int) -> None:
    tells = worker.ask("cache_metrics", ["1", "kv_cache_size_tokens=163840"]).error is None
    assert tells is TELLS_TOKENS.get(worker.version, tells)
    if not tells:
        assert vllm_tokens(_told(worker, cores, num_gpu_blocks=10_240)) is None
        return
    text = _told(worker, cores, num_gpu_blocks=10_240 * cores, kv_cache_size_tokens=163_840)
    assert vllm_tokens(text) == 163_840
    assert vllm_tokens(_told(worker, cores, num_gpu_blocks=10_240)) is None, "not known yet"


@pytest.mark.parametrize("cores", [1, 2])
def test_blocks_are_tokens_where_they_fill_the_caches_bytes(worker: Worker, cores: int) -> None:
    fields = {"num_gpu_blocks": 10_240 * cores, "block_size": 16, "kv_cache_memory_bytes": 20 << 30}
    text = _told(worker, cores, **fields)
    assert vllm_tokens_of_blocks(text, PER_TOKEN) == 163_840
    assert vllm_tokens_of_blocks(text, PER_TOKEN * 6) is None, "groups of layers share the blocks"
    assert vllm_tokens_of_blocks(text, None) is None
