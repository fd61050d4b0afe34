"""The flag tables that the operator ships are what the engines' own parsers say."""

from __future__ import annotations

from llm_operator.engines.table import Option
from tests.engines.specs import RULES, table_of
from tests.engines.worker import Worker

FEWEST_OPTIONS = 50


def test_options_are_those_of_the_parser(worker: Worker) -> None:
    entries = worker.ask("options").result
    assert len(entries) >= FEWEST_OPTIONS
    theirs: dict[str, Option] = {}
    for entry in entries:
        option = Option(tuple(entry["names"]), entry["takes"], entry["type"], tuple(entry["choices"] or ()))
        theirs.update(dict.fromkeys(option.names, option))
    assert theirs == dict(table_of(worker.engine, worker.version).options)


def test_catalogues_are_those_of_the_sources(worker: Worker) -> None:
    theirs = {key: frozenset(names) for key, names in worker.ask("catalogue").result.items()}
    assert theirs == dict(table_of(worker.engine, worker.version).names)
    assert all(theirs.values())


def test_rules_name_real_options(worker: Worker) -> None:
    """A misspelt rule would guard nothing; options that came or went are in some other version's table."""
    rules, table = RULES[worker.engine], table_of(worker.engine, worker.version)
    assert set(rules.catalogues) <= set(table.options)
    assert len(set(rules.owned) & set(table.options)) >= len(rules.owned) - 3
