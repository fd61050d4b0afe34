"""What the documentation names is there: files, make targets, condition reasons, flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from llm_operator.api import LLMDeployment
from llm_operator.api.status import ConditionType
from llm_operator.modeltools import report
from llm_operator.pipeline.graph import NODES
from llm_operator.reasons import NAMES, REASONS, Area, Reason, explain, similar
from llm_operator.reasons.tables import with_tables

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PACKAGE = ROOT / "operator" / "llm_operator"
# The position of the reason in a call, where it is not given by name.
REASON_POSITION = {
    **{
        "Problem": 0,
        "_death": 0,
        "Finding": 2,
        "wrong_field": 0,
        "Signature": 1,
        "unknown_outcome": 1,
        "Pending": 0,
        "Unknowable": 0,
        "sign": 1,
    },
    **{"ToolError": 0, "StageReport": 2, "_stage": 3, "running": 0},
}
# The ends of reasons that are put together: SecretMissing, ConfigMapKeyMissing.
PARTS = {"Missing", "KeyMissing"}
SCHEMA = yaml.safe_load((ROOT / "crds" / "llm-operator.dev_llmdeployments.yaml").read_text())["spec"]["versions"][0][
    "schema"
]["openAPIV3Schema"]
REASON = re.compile(r"([A-Z]+[a-z0-9]+)+[A-Z]*s?")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [name for name in targets if "://" not in name and not (page.parent / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z][-a-z0-9]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        word
        for code in re.findall(r"```.*?```|`[^`]+`", page.read_text(), re.DOTALL)
        for line in re.findall(r"(?:^|`|\$ )make ((?:[a-z][-a-z0-9]*\s?)+)", code, re.MULTILINE)
        for word in line.split()
    ]
    assert [name for name in named if name not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_manifests_in_pages_are_valid(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        for document in yaml.safe_load_all(block):
            if isinstance(document, dict) and document.get("kind") == "LLMDeployment":
                LLMDeployment.parse(document)


def test_the_architecture_names_what_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    places = "api|cli|engines|kube|live|manifests|memory|models|modeltools|pipeline|planning|reasons|reconcile"
    named = set(re.findall(rf"(?<![\w/])((?:{places})/[a-z_]+(?:/[a-z_]+)*)(?:\.py)?\b", page))
    named |= {f"kube/{name}" for name in re.findall(r"`kube/(\w+)`", page)}
    assert len(named) > 20
    missing = [name for name in named if not ((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file())]
    assert sorted(missing) == []


def reasons() -> Iterator[tuple[str, str]]:
    """Every reason that the code writes as a constant, with its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            said = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            position = REASON_POSITION.get(name)
            if position is not None and len(node.args) > position:
                said.append(node.args[position])
            for expression in said:
                for part in ast.walk(expression):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and REASON.fullmatch(part.value):
                        yield part.value, page_id(path)


def documented_words() -> set[str]:
    return set(re.findall(r"`([A-Za-z0-9]+)`", (ROOT / "docs" / "status.md").read_text()))


def test_every_reason_of_the_code_is_in_the_table() -> None:
    """And so in docs/status.md and `kubectl llm explain`, which are made from it."""
    found = set(reasons())
    assert len(found) > 20, "the search finds the reasons of the code"
    assert sorted(entry for entry in found if entry[0] not in NAMES | PARTS) == []
    composed = {f"{kind}{part}" for kind in ("Secret", "ConfigMap") for part in PARTS}
    stages = set(get_args(report.Reason)) | {node.done for node in NODES.values()} | {"JobFailed", "ResultMissing"}
    assert (composed | stages) - NAMES == set()


def test_the_tables_of_reasons_are_up_to_date() -> None:
    page = (ROOT / "docs" / "status.md").read_text()
    assert with_tables(page) == page, "make generate"
    assert {area for area in get_args(Area) if f"<!-- reasons: {area} -->" not in page} == set()


def test_a_reason_has_one_meaning_in_each_area() -> None:
    keys = [(reason.area, reason.name) for reason in REASONS]
    assert len(keys) == len(set(keys))
    assert [reason.name for reason in REASONS if not REASON.fullmatch(reason.name)] == []
    conditions = {one for reason in REASONS for one in reason.conditions}
    assert conditions - set(get_args(ConditionType)) == set()


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: f"{reason.area}-{reason.name}")
def test_a_remedy_names_fields_that_exist(reason: Reason) -> None:
    assert reason.meaning
    assert reason.remedy or reason.severity == "Info" or reason.area == "Plan"
    for field in reason.fields:
        place = SCHEMA
        for part in field.split("."):
            place = place.get("properties", {}).get(part) or place.get("additionalProperties")
            assert place, f"{field} is not in the CRD"


def test_the_reasons_of_the_stages_before_serving_are_told_where_these_are() -> None:
    """Some of their words are an engine's too, where they mean something else."""
    of_jobs = {reason.name for reason in REASONS if reason.area == "Job"}
    assert (
        set(get_args(report.Reason))
        | {"JobFailed", "ResultMissing", "ClaimDiffers", "ClaimMissing", "ClaimNotLabelled"}
        == of_jobs
    )


def test_a_word_is_explained() -> None:
    assert {reason.area for reason in explain("gpuoutofmemory")} == {"Engine", "Job"}
    assert explain("NoSuchReason") == ()
    assert "KVCacheTooSmall" in similar("kvcache")


def test_every_stage_that_progress_tells_is_documented() -> None:
    told = set(re.findall(r"`([A-Za-z]+)`", (ROOT / "docs" / "models.md").read_text()))
    shown = set(get_args(report.Stage)) - {"Inspecting"}  # it is over before anybody could read of it
    assert shown - told == set()


def test_every_condition_is_a_row_of_the_first_table() -> None:
    head, _, _ = (ROOT / "docs" / "status.md").read_text().partition("\n## ")
    assert set(re.findall(r"^\| `(\w+)` \|", head, re.MULTILINE)) == set(get_args(ConditionType))
