"""What the planner says of model.format, quantization and the repository's code, beside vLLM's own configuration."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llm_operator.engines import render
from llm_operator.engines.vllm.formats import passed
from llm_operator.memory import formats
from llm_operator.memory.versions import release
from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, PlanRequest, PlanResult, Verdict, plan
from tests.engines.conftest import MODEL, QUANTIZATION, VERSIONS
from tests.engines.environments import interpreter, sources
from tests.engines.specs import request_of, spec_of
from tests.engines.test_command_lines import words_of
from tests.engines.worker import Worker
from tests.support.engine_names import Engine

GPU = GpuFacts("NVIDIA-H200", 150_109_880_320, (9, 0), 8)
METHODS: dict[str, Any] = {
    "none": None,
    **QUANTIZATION,
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]},
}
OWN_CODE = {
    "architectures": ["InternLM2ForCausalLM"],
    "model_type": "internlm2",
    "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
    "bias": False,
}
ONE_AWQ = release("0.26.0")
# LMDeploy compares them after it has found a GPU, and reads the configuration without code but not the tokenizer.
of_vllm = pytest.mark.parametrize(
    "worker", [pair for pair in VERSIONS if pair[0] == "vllm"], ids="-".join, indirect=True, scope="session"
)
CONTRADICTION = re.compile(r"does not match the quantization\s+method")
CODE = re.compile(r"trust_remote_code|execute the configuration file")


def planned(worker: Worker, config: dict[str, Any], **more: Any) -> PlanResult:
    given = PlanRequest(parse_config(config), Engine.VLLM, worker.version, GPU, **more)
    return plan(given, offers=False)


def folder(of: Path, config: dict[str, Any]) -> str:
    (of / "config.json").write_text(json.dumps(config))
    return str(of)


@of_vllm
@pytest.mark.parametrize("method", METHODS)
def test_a_format_is_refused_where_vllm_sees_a_contradiction(worker: Worker, method: str, tmp_path: Path) -> None:
    config = {**MODEL, **({} if METHODS[method] is None else {"quantization_config": METHODS[method]})}
    model = folder(tmp_path, config)
    for word in ("Auto", "GPTQ", "FP8", "CompressedTensors", *(("MXFP4",) if method == "MXFP4" else ())):
        if method == "AWQ" and release(worker.version) < ONE_AWQ:  # its class for CPUs takes it whatever is said
            continue
        run = render(request_of(spec_of("vllm", worker.version, model={"format": word}), context_length=128))
        words = words_of(run, model)
        told = worker.ask("configure", words).error or ""
        result = planned(worker, config, weight_format=word)
        contradicted = any("but config.json says" in reason for reason in result.reasons)
        assert bool(CONTRADICTION.search(told)) == contradicted, (word, told[-400:], result.reasons)
        assert ("--quantization" in words) == (passed(_asked(worker, config, word)) is not None)
        if "Unknown quantization method" in told:
            assert result.verdict is Verdict.DOES_NOT_FIT, (word, told[-400:])
        if method != "none" and word not in ("Auto", method) and not contradicted:
            assert result.verdict is not Verdict.FITS or any("model.format" in reason for reason in result.reasons)


def _asked(worker: Worker, config: dict[str, Any], word: str) -> PlanRequest:
    return PlanRequest(parse_config(config), Engine.VLLM, worker.version, GPU, weight_format=word)


@of_vllm
def test_code_of_the_repository_is_needed_where_vllm_says_so(worker: Worker, tmp_path: Path) -> None:
    for own, extra in ((True, OWN_CODE), (False, {"auto_map": OWN_CODE["auto_map"]})):
        config = {**MODEL, **extra}
        spec = spec_of("vllm", worker.version, model={"trustRemoteCode": False})
        told = worker.ask("configure", words_of(render(request_of(spec, context_length=128)), folder(tmp_path, config)))
        refused = planned(worker, config, trust_remote_code=False).verdict is Verdict.DOES_NOT_FIT
        assert bool(CODE.search(told.error or "")) == refused == own, told.error


def test_model_types_are_those_that_have_classes() -> None:
    script = """
import json
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
print(json.dumps(sorted(CONFIG_MAPPING_NAMES)))
"""
    told = subprocess.run(
        [interpreter("vllm"), "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=300, check=True
    )
    table = json.loads((Path(formats.__file__).parent / "model_types.json").read_text())
    assert table["transformers"] == json.loads(told.stdout.splitlines()[-1])
    named: set[str] = set()
    for version in (version for engine, version in VERSIONS if engine == "vllm"):
        named |= registered(version)
    assert set(table["vllm"]) == named


def registered(version: str) -> set[str]:
    """Model types whose configuration class vLLM brings."""
    root = sources("vllm", version) or Path(interpreter("vllm")).parents[1] / "lib/python3.11/site-packages"
    text = (root / "vllm" / "transformers_utils" / "config.py").read_text()
    table = re.search(r"_CONFIG_REGISTRY.*?LazyConfigDict\((.*?)\n\)", text, re.DOTALL)
    assert table is not None
    return set(re.findall(r"^\s+(?:\*\*\{)?\"?([\w-]+)\"?[=:]", table[1], re.MULTILINE))
