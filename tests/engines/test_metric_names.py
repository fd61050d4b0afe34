"""The names in engines/*/metrics.json against the sources of each engine version that the tests have."""

from __future__ import annotations

import ast

import pytest

from llm_operator.engines import known_versions
from llm_operator.engines.metric_names import engines, metric_names, quantities
from tests.engines.environments import TESTED, interpreter, sources

LOGGERS = {"VLLM": "vllm/v1/metrics/loggers.py", "LMDeploy": "lmdeploy/metrics/loggers.py"}
KINDS = {"Gauge": "gauge", "Counter": "counter", "Histogram": "histogram"}
CASES = [(engine, version) for engine in engines() for version in TESTED[engine.lower()]]


def declared(engine: str, version: str) -> dict[str, str]:
    """Kind by name of the samples that this version's logger declares; a counter's samples end in `_total`."""
    folder = sources(engine.lower(), version)
    if folder is None:
        (folder,) = (interpreter(engine.lower()).parents[1] / "lib").glob("python3.*/site-packages")
    tree = ast.parse((folder / LOGGERS[engine]).read_text())
    found: dict[str, str] = {}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        kind = next((kind for word, kind in KINDS.items() if word.lower() in function.lower()), None)
        name = next((entry.value for entry in call.keywords if entry.arg == "name"), None)
        if kind and isinstance(name, ast.Constant) and isinstance(name.value, str):
            text = name.value
            found[f"{text.removesuffix('_total')}_total" if kind == "counter" else text] = kind
    return found


@pytest.mark.parametrize(("engine", "version"), CASES)
def test_each_version_has_the_metrics_that_the_table_gives_it(engine: str, version: str) -> None:
    there = declared(engine, version)
    wanted = {name.name: name.kind for quantity in quantities() for name in metric_names(engine, quantity, version)}
    assert wanted
    assert {name: there.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(("engine", "version"), CASES)
def test_no_version_is_denied_a_metric_that_it_has(engine: str, version: str) -> None:
    there = declared(engine, version)
    given = {name.name for quantity in quantities() for name in metric_names(engine, quantity, version)}
    every = {name.name for quantity in quantities() for name in metric_names(engine, quantity)}
    assert not (every - given) & set(there)


@pytest.mark.parametrize("engine", engines())
def test_the_oldest_versions_are_known_ones(engine: str) -> None:
    first = {name.first for quantity in quantities() for name in metric_names(engine, quantity)}
    assert first <= set(known_versions(engine))
