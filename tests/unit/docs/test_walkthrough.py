"""What the pages quote of `kubectl llm plan` is what it prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from llm_operator.cli.main import run
from tests.faulty_hub import FaultyHub

ROOT = Path(__file__).parents[3]
CONFIGS = Path(__file__).parents[1] / "models" / "configs"
PAGE = ROOT / "docs" / "walkthrough-internlm.md"
BLOCK = re.compile(r"```console\n\$ kubectl llm (plan [^\n]*)\n(.+?)```", re.DOTALL)
QUOTED = BLOCK.findall(PAGE.read_text())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A stub in the place of the hub, with the examples' models."""
    with FaultyHub(tmp_path) as stub:
        stub.add("internlm/internlm2_5-7b-chat", {"config.json": (CONFIGS / "internlm2_5-7b-chat.json").read_bytes()})
        stub.add("Qwen/QwQ-32B", {"config.json": (CONFIGS / "qwq-32b.json").read_bytes()})
        monkeypatch.setattr(constants, "ENDPOINT", stub.url)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", stub.url, raising=False)
        template = f"{stub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield


def test_the_page_quotes_plans() -> None:
    assert len(QUOTED) == 4


@pytest.mark.parametrize(("command", "output"), QUOTED, ids=[command for command, _ in QUOTED])
@pytest.mark.usefixtures("hub")
def test_a_quoted_plan_is_what_is_printed(
    command: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)) == 0
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("engine", ["VLLM", "LMDeploy"])
def test_the_thinking_model_of_the_examples_has_a_reasoning_parser(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example gives vLLM's, and says LMDeploy's; a name that an engine does not know is refused."""
    text = (ROOT / "examples" / "qwq-32b-tp2.yaml").read_text()
    (other,) = re.findall(r"# LMDeploy: --reasoning-parser=([\w-]+)", text)
    if engine == "LMDeploy":
        text = text.replace("type: VLLM", "type: LMDeploy").replace("parser=deepseek_r1", f"parser={other}")
    (tmp_path / "qwq.yaml").write_text(text)
    assert run(["render", "-f", str(tmp_path / "qwq.yaml"), "--config", str(CONFIGS / "qwq-32b.json")]) == 0
    chosen = "deepseek_r1" if engine == "VLLM" else other
    assert f"- --reasoning-parser={chosen}" in capsys.readouterr().out
