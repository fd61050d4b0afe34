"""Parameters of random small models of every architecture, held against transformers' own on the meta device."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from llm_operator.models import known_architectures, parse_config
from llm_operator.models.known.by_files import BY_FILES
from llm_operator.models.known.newest import NEWEST
from tests.engines.environments import interpreter

WORKER = Path(__file__).parent / "workers" / "count_parameters.py"
VARIANTS = 4
# In no release of transformers (their repositories bring code), or not to be built without packages of others.
WITHOUT = {
    "AquilaForCausalLM": "its repository's code",
    "BaiChuanForCausalLM": "its repository's code",
    "BaichuanForCausalLM": "its repository's code",
    "BailingMoeForCausalLM": "its repository's code",
    "BailingMoeV2ForCausalLM": "its repository's code",
    "ChatGLMForConditionalGeneration": "its repository's code",
    "ChatGLMModel": "its repository's code",
    "DbrxForCausalLM": "cannot be built from its config",
    "DeciLMForCausalLM": "its repository's code",
    "DeepseekForCausalLM": "its repository's code",
    "DeepseekOCRForCausalLM": "its repository's code",
    "Dots1ForCausalLM": "its defaults cannot be built",
    "DotsOCRForCausalLM": "its repository's code",
    "Ernie4_5_VLMoeForConditionalGeneration": "its defaults cannot be built",
    "ExaoneForCausalLM": "its repository's code",
    "ExaoneMoEForCausalLM": "K-EXAONE's spelling of ExaoneMoe",
    "Gemma3nForConditionalGeneration": "needs timm",
    "H2OVLChatModel": "its repository's code",
    "IQuestCoderForCausalLM": "vLLM's name for Llama's layers",
    "InternLM2ForCausalLM": "its repository's code",
    "InternLM3ForCausalLM": "its repository's code",
    "InternLMForCausalLM": "its repository's code",
    "InternS1ForConditionalGeneration": "its repository's code",
    "InternVLChatModel": "its repository's code",
    "KimiK25ForConditionalGeneration": "its repository's code",
    "KimiK2ForCausalLM": "its repository's code",
    "KimiVLForConditionalGeneration": "its repository's code",
    "LLaMAForCausalLM": "vLLM's name for Llama's layers",
    "Lfm2MoeForCausalLM": "its defaults cannot be built",
    "LightOnOCRForConditionalGeneration": "vLLM's spelling of LightOnOcr",
    "Llama4ForCausalLM": "cannot be built from its config",
    "Llama_Nemotron_Nano_VL": "its repository's code",
    "MPTForCausalLM": "the name of its first release",
    "MiMoForCausalLM": "its repository's code",
    "MiMoV2ForCausalLM": "MiMo-V2-Flash's other name",
    "MiniCPMForCausalLM": "its repository's code",
    "MiniCPMO": "its repository's code",
    "MiniCPMV": "its repository's code",
    "MiniMaxM1ForCausalLM": "its repository's code",
    "MiniMaxText01ForCausalLM": "its repository's code",
    "MistralLarge3ForCausalLM": "vLLM's name for DeepSeek's layers",
    "NemotronH_Nano_VL_V2": "its repository's code",
    "OrionForCausalLM": "its repository's code",
    "PanguEmbeddedForCausalLM": "its repository's code",
    "Phi3VForCausalLM": "its repository's code",
    "Phi4MMForCausalLM": "its repository's code",
    "PhiMoEForCausalLM": "its repository's code",
    "QWenLMHeadModel": "its repository's code",
    "Qwen2_5OmniForConditionalGeneration": "with its talker; the thinker is counted",
    "Qwen2_5OmniModel": "the thinker is counted",
    "Qwen3OmniMoeForConditionalGeneration": "its talker cannot be built from defaults",
    "SDARForCausalLM": "its repository's code",
    "SDARMoeForCausalLM": "its repository's code",
    "SkyworkR1VChatModel": "its repository's code",
    "SolarForCausalLM": "its repository's code",
    "Step3p5ForCausalLM": "its repository's code",
    "TeleChat2ForCausalLM": "its repository's code",
    "TeleChat3ForCausalLM": "vLLM's name for Llama's layers",
    "TeleFLMForCausalLM": "its repository's code",
    "XverseForCausalLM": "its repository's code",
    **dict.fromkeys(NEWEST, "vLLM's own code, which tests/unit/models/test_vllm_models.py holds it against"),
    **dict.fromkeys(BY_FILES, "what sees was not read, and is counted by the size of the weight files"),
}


@pytest.fixture(scope="module")
def counted() -> dict[str, list[dict[str, Any]]]:
    """Models by architecture, as the worker built them."""
    wanted = [name for name in known_architectures() if name not in WITHOUT]
    made = subprocess.run(
        [interpreter("vllm"), "-W", "ignore", WORKER, "11", str(VARIANTS), *wanted],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in made.stdout.splitlines():
        entry = json.loads(line)
        found[entry["architecture"]].append(entry)
    return found


@pytest.mark.parametrize("architecture", [name for name in known_architectures() if name not in WITHOUT])
def test_parameters_are_those_of_transformers(architecture: str, counted: dict[str, list[dict[str, Any]]]) -> None:
    models = counted[architecture]
    assert len(models) == VARIANTS, f"transformers built {len(models)}: {models[0].get('error')}"
    for model in models:
        assert parse_config(model["config"]).parameters == model["parameters"], json.dumps(model["config"])
