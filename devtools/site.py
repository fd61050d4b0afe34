"""`python -m devtools.site SOURCE`: write the sources of the documentation's site, for `mkdocs build --strict`.

They are docs/ as it is, the README as the first page, and pages made from the CRD, the chart's values, the engines'
tables and the command line's own help. Links that leave docs/ lead to copies of the files, as a site has no repository
around it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster.cache import ROOT
from devtools import chart_readme
from llm_operator.api.crd import crd_yaml
from llm_operator.cli.main import COMMANDS, parser
from llm_operator.engines import known_versions

LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s:]+)(#[^)\s]*)?\)")
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages outside docs/, by their place in the site."""


def fields() -> str:
    """Every field of the resource, as the CRD describes it."""
    version = yaml.safe_load(crd_yaml())["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    lines = ["# Fields", "", "Generated from the CRD; `kubectl explain llmdeployment.spec` shows the same.", ""]
    for part in ("spec", "status"):
        lines += [f"## {part}", "", "| field | type | default | |", "|---|---|---|---|"]
        for path, schema in _fields(properties[part], part):
            default = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
            lines.append(f"| `{path}` | {_type(schema)} | {default} | {_cell(schema.get('description', ''))} |")
        lines.append("")
    return "\n".join(lines)


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}.{name}", field
        yield from _fields(field, f"{prefix}.{name}")
        yield from _fields(field.get("items", {}), f"{prefix}.{name}[]")


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "quantity"))
    bounds = [str(schema[key]) if key in schema else "" for key in ("minimum", "maximum")]
    return f"{kind} {'..'.join(bounds)}" if any(bounds) else kind


def _cell(text: str) -> str:
    for character, entity in (("<", "&lt;"), ("|", "&#124;"), ("\n", " ")):
        text = text.replace(character, entity)
    return text


def versions() -> str:
    """The engines' versions that the operator knows, newest first."""
    lines = [
        "# Engine versions",
        "",
        "Generated from the tables of options. Another patch release of a minor version is taken too.",
        "",
    ]
    for engine in ("LMDeploy", "VLLM"):
        lines += [f"## {engine}", "", *(f"- `{version}`" for version in reversed(known_versions(engine))), ""]
    return "\n".join(lines)


def values() -> str:
    """The chart's values."""
    text = (chart_readme.CHART / "values.yaml").read_text()
    return f"# Values of the chart\n\n{chart_readme.table(chart_readme.values(text))}"


HELP_COLUMNS = "100"
SUBCOMMANDS = {"cache": ("list", "prune")}


def help_of(*command: str) -> str:
    """What `kubectl llm COMMAND --help` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        before = os.environ.get("COLUMNS")
        os.environ["COLUMNS"] = HELP_COLUMNS
        try:
            parser(command[0] if command else None).parse_args([*command, "--help"])
        finally:
            os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return output.getvalue()


def command_line() -> str:
    """Every command with its options."""
    lines = ["# kubectl llm: options", "", "Generated from `--help`. [cli.md](../cli.md) says what to use when.", ""]
    for command in COMMANDS:
        for words in ((command,), *((command, name) for name in SUBCOMMANDS.get(command, ()))):
            lines += [f"## {' '.join(words)}", "", "```text", help_of(*words).rstrip(), "```", ""]
    return "\n".join(lines)


def write(target: Path) -> None:
    """Write the site's sources into a new folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target, ignore=shutil.ignore_patterns("requirements*"))
    for name, moved in PAGES.items():
        shutil.copy(ROOT / name, target / moved)
    generated = {"fields": fields(), "values": values(), "versions": versions(), "cli": command_line()}
    (target / "reference").mkdir()
    for name, text in generated.items():
        (target / "reference" / f"{name}.md").write_text(text)
    for page in sorted(target.rglob("*.md")):
        place = page.relative_to(target)
        origin = next((ROOT / name for name, moved in PAGES.items() if moved == str(place)), ROOT / "docs" / place)
        page.write_text(_with_links(page.read_text(), origin, page, target))


def _with_links(text: str, origin: Path, page: Path, target: Path) -> str:
    return LINK.sub(lambda link: _link(link, origin, page, target), text)


def _link(link: re.Match[str], origin: Path, page: Path, target: Path) -> str:
    """A link of a page, as it must be in the site."""
    text, path, anchor = link[1], link[2], link[3] or ""
    aim = (origin.parent / path).resolve()
    if not aim.is_relative_to(ROOT) or not aim.exists():
        return link[0]
    name = str(aim.relative_to(ROOT))
    if aim.is_relative_to(ROOT / "docs"):
        place = aim.relative_to(ROOT / "docs")
    elif name in PAGES:
        place = Path(PAGES[name])
    elif aim.is_dir():
        return text.strip("[]")
    else:
        # Not as Markdown: the site has no page for it.
        place = Path("files") / f"{name.replace('/', '-').lstrip('.')}.txt"
        (target / place).parent.mkdir(exist_ok=True)
        shutil.copy(aim, target / place)
    up = "../" * len(page.relative_to(target).parent.parts)
    if aim.is_dir():
        place = place / "README.md"
    return f"{text}({up}{place}{anchor})"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
