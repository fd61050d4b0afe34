"""No code but that of engines/ names an engine: who asks `is it vLLM` would treat a third engine as one of the two."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import llm_operator
from llm_operator.engines.interface import Engine
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.table import Capabilities

ROOT = Path(llm_operator.__file__).parent
NAMED = re.compile(r"lmdeploy|vllm|turbomind|\bpytorch\b", re.I)
OURS = re.compile(r"llmdeployment", re.I)
MAY_NAME: dict[str, str] = {
    "engines": "the folders themselves",
    "modeltools": "runs the command `lmdeploy lite` in a Job, and imports nothing of the operator",
    "api": "the schema: its enumerations and its rules in CEL are not computed from the table",
    "reasons": "texts for people",
    "models/fields.py": "messages",
    "child_options.py": "the help text of the image with `lmdeploy lite`",
    "image_names.py": "the published images",
    "pipeline/artifacts.py": "spec.engine.conversion, whose one value is TurboMind",
    "pipeline/graph.py": "the name of a converted model's directory",
    "planning/quantizing.py": "what `lmdeploy lite` can quantize",
}


READS_OPTIONS = {
    "manifests/chat_page.py": "the page's own options",
    "pipeline/stage_pod.py": "the model tools' own options",
}
NEUTRAL = ("live/", "manifests/", "memory/", "models/", "pipeline/", "planning/", "reconcile/")


def named(source: str | ast.Module) -> Iterator[str]:
    """Every name of an engine in code and in texts that are not documentation."""
    tree = source if isinstance(source, ast.Module) else ast.parse(source)
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if node not in documentation:
                said = [text]
            case ast.Import(names=aliases):
                said = [alias.name for alias in aliases]
            case ast.ImportFrom(module=module, names=aliases):
                said = [module or "", *(alias.name for alias in aliases)]
            case ast.Attribute(attr=text) | ast.Name(id=text) | ast.keyword(arg=str(text)) | ast.arg(arg=text):
                said = [text]
            case ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text) | ast.ClassDef(name=text):
                said = [text]
            case _:
                said = []
        yield from (text for text in said if NAMED.search(OURS.sub("", text)))


@cache
def sources() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def excused(path: str) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in MAY_NAME)


def test_engines_are_named_in_their_folders_only() -> None:
    found = {path: sorted(set(named(source))) for path, source in sources().items() if not excused(path)}
    assert {path: texts for path, texts in found.items() if texts} == {}


@pytest.mark.parametrize("path", ["engines/death.py", "engines/failures.py", "engines/log_form.py"])
def test_what_reads_the_logs_of_engines_names_none(path: str) -> None:
    assert sorted(set(named(sources()[path]))) == []


def test_no_option_of_one_engine_is_named_by_the_reconciler() -> None:
    """An option is one engine's; where it helps, its folder says so."""
    known = [set((engine.options.capabilities(None) or _unknown(engine.name)).options) for engine in ENGINES.values()]
    one_engines = {option for options in known for option in options if sum(option in one for one in known) == 1}
    named = {
        (path, option)
        for path, source in sources().items()
        if path.startswith(NEUTRAL) and path not in READS_OPTIONS
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", node.value)
        if option in one_engines
    }
    assert named == set()


def _unknown(name: str) -> Capabilities:
    raise AssertionError(f"{name} has no newest version")


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_an_engine_knows_the_options_that_it_names(engine: Engine) -> None:
    known = (engine.options.capabilities(None) or _unknown(engine.name)).options
    assert {engine.context_option, engine.share_option, engine.max_sequences_option} <= set(known)


@pytest.mark.parametrize("place", MAY_NAME)
def test_every_excuse_is_needed(place: str) -> None:
    inside = [source for path, source in sources().items() if path == place or path.startswith(f"{place}/")]
    assert any(list(named(source)) for source in inside)


@pytest.mark.parametrize(
    "code",
    [
        'if spec.engine.type == "VLLM": pass',
        "from llm_operator.engines import vllm",
        "import llm_operator.engines.lmdeploy.command",
        "request.engine is Engine.LMDEPLOY",
        "def _vllm_tokens(): pass",
        "f(vllm_tokens=1)",
        'x = f"TurboMind {version}"',
        "match kind:\n    case 'LMDeploy': pass",
    ],
)
def test_a_name_is_seen(code: str) -> None:
    assert list(named(code))


def test_documentation_and_our_own_kind_are_no_names() -> None:
    source = '"""As vLLM does."""\nclass LLMDeployment:\n    """LMDeploy."""\nx = "llmdeployments"  # vLLM'
    assert not list(named(source))
