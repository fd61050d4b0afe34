"""One long-lived parser per engine version, and what the engines need, made before the first test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.engines.environments import TESTED, prepare, prepared, tested_versions
from tests.engines.worker import Worker

HERE = Path(__file__).resolve().parent
VERSION = re.compile(r"[\[-]((?:lmdeploy|vllm)-\d[\w.]*)")
VERSIONS = [(engine, version) for engine in TESTED for version in tested_versions(engine)]

# 4 attention and 2 KV heads; no weights: the configuration step reads config.json alone.
MODEL = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 8192,
    "intermediate_size": 8192,
    "num_hidden_layers": 2,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "vocab_size": 512,
    "max_position_embeddings": 16_777_216,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "eos_token_id": 2,
}
_PACKED = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
QUANTIZATION = {
    "AWQ": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
    "GPTQ": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True},
    "FP8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "CompressedTensors": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": _PACKED}},
        "ignore": ["lm_head"],
    },
    "MXFP4": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
}


def scope_of(nodeid: str) -> str:
    """What one process runs: the tests of one engine's version, whose parser then starts once; the others' file."""
    version = VERSION.search(nodeid)
    return version[1] if version else nodeid.split("::", 1)[0]


class ByVersion(LoadScopeScheduling):  # type: ignore[misc]
    """Scopes as above.

    The marks of --dist loadgroup would say it too, but pytest 9.2 has no names of tests that pytest-xdist 3.8 could
    change for that: they are not heeded.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByVersion | None:
    return ByVersion(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process works alone at the end (with --no-loadscope-reorder)."""

    def order(item: pytest.Item) -> tuple[bool, bool]:
        scope = scope_of(item.nodeid)
        return not scope.endswith("test_quantize.py"), not scope.startswith("vllm-")

    items.sort(key=order)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Installing takes minutes: it is done outside of any test's time limit, and seen."""
    if session.config.option.collectonly or not any(HERE in item.path.parents for item in session.items):
        return
    if not prepared():
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print()
            prepare()


@pytest.fixture(scope="session", params=VERSIONS, ids="-".join)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """The real parser of one engine version; the tests of one version run together."""
    with Worker(*request.param) as running:
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Model directories by the format of their weights: `HF` and every quantized one."""
    root = tmp_path_factory.mktemp("models")
    folders = {}
    for name, quantization in {"HF": None, **QUANTIZATION}.items():
        extra = {} if quantization is None else {"quantization_config": quantization}
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**MODEL, **extra}))
        folders[name] = str(folder)
    return folders
