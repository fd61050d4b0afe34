"""Text of somebody else is read in one place: what Ruff's TID251 cannot see, methods, is looked for here."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OPERATOR = ROOT / "operator" / "llm_operator"
PAGE = ROOT / "images" / "web" / "chat_page"

PARSERS = ("model_validate_json", "validate_json", "model_validate_strings", "parse_raw", "raw_decode")
"""Parse without a bound, whatever they are methods of."""
DIGITS = ("isdigit", "isdecimal", "isnumeric")
"""True for characters and lengths that int() and float() refuse: foreign.natural_number is right."""
READERS = ("read_bytes", "read_text", "read", "readlines", "readline", "readall", "json", "text")
"""Read without a bound if they are called without a number."""
KNOWN = {
    # The package's own data.
    "source.read_text()",
    "self._source.read_text()",
    "resources.files('llm_operator.engines').joinpath('data', 'metrics.json').read_text()",
    "resources.files('llm_operator.engines').joinpath('data', f'{engine.lower()}.json').read_text()",
    "resources.files(__package__).joinpath(FILE).read_text()",
    "resources.files('llm_operator.planning').joinpath('gpus.json').read_text('utf-8')",
    "resources.files('llm_operator.manifests.overlay').joinpath('pod_template.json').read_text()",
    "resources.files('llm_operator.modeltools').joinpath('trust.py').read_text()",
    "(resources.files('llm_operator.engines.data') / 'metrics.json').read_text()",
    "(files('llm_operator.models') / 'data' / 'nested_defaults.json').read_bytes()",
    "(files('llm_operator.memory') / 'model_types.json').read_text()",
    "SUPPORT.read_text()",
    "PROMPTS.read_text(encoding='utf-8')",
    "Path('wikitext', 'train.jsonl').read_text(encoding='utf-8')",  # what the tools wrote, bounded, beforehand
    "options.text.read_text(encoding='utf-8')",
    "path.read_text(encoding='utf-8')",  # generated files
    "page.read_text(encoding='utf-8')",
    "path.read_text()",  # the kernel's limits of a control group; generated files
    "path.read_text(encoding='utf-8', errors='replace')",  # the system's certificates
    # The kernel.
    "Path('/proc/self/statm').read_text()",
    "BOOT.read_text()",
    "activity.read()",  # eight bytes of a memfd
    # Bounded by the stream's limit (hub_readers.py), or by what aiohttp was given.
    "self._answers.readline()",
    "super().json()",
    # In natural_number, behind its length and isascii().
    "text.isdigit()",
    "length.isdigit()",  # of at most 15 bytes, not characters: ASCII digits
    "protocol.read()",  # the head of one answer, whose lines and fields aiohttp bounds; the body is read to a limit
}


def calls(source: str) -> list[str]:
    """The calls of methods that read or parse without a bound."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        sized = any(not (isinstance(one, ast.Constant) and isinstance(one.value, str)) for one in node.args)
        if name in PARSERS or name in DIGITS or (name in READERS and not sized):
            found.append(ast.unparse(node))
    return found


def test_nothing_is_read_or_parsed_without_a_bound() -> None:
    unknown = [
        f"{file.relative_to(ROOT)}: {call}"
        for file in sorted([*OPERATOR.rglob("*.py"), *PAGE.rglob("*.py")])
        for call in calls(file.read_text())
        if call not in KNOWN
    ]
    digits = [file.name for file in OPERATOR.rglob("*.py") if "text.isdigit()" in calls(file.read_text())]
    assert sorted(digits) == ["foreign.py", "text.py"]
    assert not unknown, "read files and answers with a limit (foreign.py, kube/reading.py, modeltools/text.py)"


def test_the_search_finds_what_it_looks_for() -> None:
    for line in (
        "number.isdecimal()",
        "A.model_validate_json(text)",
        "T.validate_json(text, strict=True)",
        "file.read()",
        "p.read_bytes()",
    ):
        assert calls(line) == [line]
    for line in ("file.read(limit)", "file.read(64 << 10)", "stream.readline(LINE_BYTES)", "validate(text)"):
        assert calls(line) == []


@pytest.mark.parametrize(
    "line",
    [
        "import json\njson.loads(text)",
        "import json\njson.load(file)",
        "from json import loads\nloads(text)",
        "from json import JSONDecoder\nJSONDecoder()",
        "from pydantic_core import from_json\nfrom_json(text)",
        "import pydantic_core\npydantic_core.from_json(text)",
        "import yaml\nyaml.safe_load(text)",
        "import yaml\nyaml.load_all(text, yaml.SafeLoader)",
        "import pickle\npickle.loads(text)",
        "from ast import literal_eval\nliteral_eval(text)",
    ],
)
@pytest.mark.parametrize("folder", [OPERATOR / "kube", PAGE])
def test_the_lint_refuses_a_bare_parser(folder: Path, line: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251", "--output-format=concise", "-"]
    command[4:4] = ["--stdin-filename", str(folder / "new.py")]
    done = subprocess.run(command, input=line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert "TID251" in done.stdout
