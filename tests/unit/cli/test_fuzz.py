"""Whatever a file holds, the command ends with 0, 1 or 2 and says why in lines; it never shows a traceback."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llm_operator.cli.main import run
from llm_operator.cli.plan import NOT_CHECKED
from tests.support.strategies import resource, specs

CONFIGS = Path(__file__).parents[1] / "models" / "configs"
NAMES = ("llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-27b-it", "deepseek-v3", "gpt-oss-20b", "qwen2.5-7b-instruct-awq")
KNOWN = [json.loads((CONFIGS / f"{name}.json").read_text()) for name in NAMES]
LLAMA = str(CONFIGS / "llama-3.1-8b.json")
LONG = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

numbers = st.integers(-(2**70), 2**70) | st.integers(-2, 9) | st.floats() | st.sampled_from([2**31, 2**53, 10**30])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=12) | st.sampled_from(["", "1Gi", "../x", "a\n"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@st.composite
def configs(draw: st.DrawFn) -> Any:
    """Known configurations with up to three fields of any depth changed, removed or added."""
    config = copy.deepcopy(draw(st.sampled_from(KNOWN)))
    for _ in range(draw(st.integers(0, 3))):
        holder = config
        while nested := [key for key, value in holder.items() if isinstance(value, dict) and value]:
            if draw(st.booleans()):
                break
            holder = holder[draw(st.sampled_from(nested))]
        name = draw(st.sampled_from(sorted(holder)) | st.sampled_from(["text_config", "quantization_config"]))
        if draw(st.booleans()):
            holder.pop(name, None)
        else:
            holder[name] = draw(values)
    return config


def judged(*arguments: str) -> int:
    """The exit code, after looking at what was printed."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = run(["plan", *arguments, "-o", "json"])
    if code == 2:
        lines = errors.getvalue().splitlines()
        assert output.getvalue() == ""
        assert lines
        assert all(line.startswith("kubectl llm plan: ") for line in lines), lines
        return code
    verdicts = {item["verdict"] for item in json.loads(output.getvalue())["items"]}
    assert verdicts <= {"Fits", "DoesNotFit", "Unknown"}
    assert code == ("DoesNotFit" in verdicts)
    assert errors.getvalue() == (f"kubectl llm plan: {NOT_CHECKED}\n" if "-f" in arguments else "")
    return code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@settings(LONG, max_examples=400)
@given(configs() | values, st.sampled_from(["LMDeploy", "VLLM"]))
def test_any_configuration(file: Path, config: Any, engine: str) -> None:
    file.write_text(json.dumps(config))
    judged("--config", str(file), "--gpu", "NVIDIA-L4:2", "--engine", engine)


@settings(LONG, max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert judged("--config", str(file), "--gpu", "NVIDIA-L4") == 2
    judged("-f", str(file), "--config", LLAMA, "--gpu", "NVIDIA-L4")


@settings(LONG, max_examples=300)
@given(specs | values)
@example({"model": {}, "engine": {"type": "VLLM"}, "resources": {"requests": {"a\n\x1b[2Jb\u2028": True}}})
def test_any_manifest(file: Path, spec: Any) -> None:
    file.write_text(yaml.safe_dump(resource(spec)))
    judged("-f", str(file), "--config", LLAMA, "--gpu", "NVIDIA-RTX-A6000:2")


@settings(LONG, max_examples=200)
@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=8))
def test_any_gpu(name: str, memory: str, capability: str) -> None:
    judged("--config", LLAMA, f"--gpu={name}")
    judged("--config", LLAMA, f"--gpu-memory={memory}", f"--compute-capability={capability}")
