"""spec.engine.extraArgs: each is an exact option of the engine's version, with values it takes, owned by no field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_operator.engines.table import Capabilities, Option
from llm_operator.foreign import natural_number, read_json
from llm_operator.problems import Problem, wrong_field

FIELD = "spec.engine.extraArgs"
LONGEST_NUMBER = 30
"""Characters; beyond them `1.5k` overflows a float, and an integer takes quadratic time."""
# argparse takes `-1` as a value, but vLLM reads `-0.5` as a dotted option (vLLM 0.33.0, vllm/utils/argparse_utils.py).
_NEGATIVE = re.compile(r"-[0-9]+")
_NUMBER = re.compile(r"[0-9]+|[0-9]+(\.[0-9]+)?[kmgt]|[0-9]+[KMGT]")

# Options that vLLM reads into its own structures; what is inside them is the engine's to judge.
_STRUCTURED = ("-config", "-buckets", "-loras", "-kwargs", "-op-priority", "-overrides")

# Of one argument; the CRD allows 2,048 characters.
_JSON_BYTES = 4096


def _json(text: str) -> Any:
    return read_json(text, _JSON_BYTES)


_READERS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "json": (_json, "JSON"),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What an engine's module says about its options.

    Attributes:
        owned: option names that the operator renders itself, each with the field that says it.
        refused: option names that cannot work in a pod of the operator, each with the reason and what to do.
        catalogues: option names whose value must be in a catalogue of the version (see Capabilities.names).
        needs: option names that the engine takes only beside another one.
        shapes: option names whose values have a form of the option's own: what each value must pass, and its name.
    """

    owned: Mapping[str, str]
    refused: Mapping[str, str]
    catalogues: Mapping[str, str]
    needs: Mapping[str, str]
    shapes: Mapping[str, tuple[Callable[[str], bool], str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """One option as the user wrote it."""

    name: str
    option: Option
    values: tuple[str, ...]


def whole_number(text: str) -> int | None:
    """A value of the options whose type is `number`, as vLLM reads it; None if it would not.

    `4k` is 4,000, `4K` is 4,096, `1.5k` is 1,500 (vLLM 0.33.0, vllm/utils/argparse_utils.py, human_readable_int).
    """
    if _NUMBER.fullmatch(text) is None or len(text) > LONGEST_NUMBER:
        return None
    plain = natural_number(text, LONGEST_NUMBER)
    if plain is not None:
        return plain
    number, suffix = text[:-1], text[-1]
    power = "kmgt".index(suffix.lower()) + 1
    return int(float(number) * 1000**power) if suffix.islower() else int(number) * 1024**power


def check_arguments(engine: str, table: Capabilities, rules: Rules, words: Sequence[str]) -> tuple[Problem, ...]:
    """Everything that is wrong with the extra arguments; nothing where the engine will take them."""
    refusals: list[Problem] = []
    given: list[Given] = []
    seen: set[tuple[str, ...]] = set()
    for item in _split(engine, table, rules, words):
        if isinstance(item, Problem):
            refusals.append(item)
            continue
        given.append(item)
        if item.option.names in seen:
            text = f"{item.name} is given twice and only the last one counts: give it once"
            refusals.append(wrong_field("DuplicateArgument", FIELD, text))
        seen.add(item.option.names)
        refusals += _judge(engine, table, rules, item)
    names = {name for item in given for name in item.option.names}
    for item in given:
        needed = rules.needs.get(item.name)
        if needed is not None and needed not in names:
            text = f"{item.name} works only together with {needed}: add {needed} or remove {item.name}"
            refusals.append(wrong_field("IncompleteArguments", FIELD, text))
    return tuple(refusals)


def _split(engine: str, table: Capabilities, rules: Rules, words: Sequence[str]) -> Iterator[Given | Problem]:
    """Options with their values as argparse takes them apart, without its abbreviations."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word in ("-", "--"):
            text = f"{word!r} belongs to no option: expected --option, --option=value, or the two as separate entries"
            yield wrong_field("UnexpectedArgument", FIELD, text)
            continue
        option = table.options.get(name)
        if option is None:
            yield _unknown(engine, table, rules, name)
            while rest and not rest[0].startswith("-"):  # its values, which would only repeat the complaint
                rest.pop(0)
            continue
        values = [value] if equals else []
        if not equals and option.takes != "0":
            most = {"1": 1, "?": 1}.get(option.takes, len(rest))
            while rest and len(values) < most and _is_value(rest[0]):
                values.append(rest.pop(0))
        yield Given(name, option, tuple(values))


def _is_value(word: str) -> bool:
    return not word.startswith("-") or word == "-" or _NEGATIVE.fullmatch(word) is not None


def _unknown(engine: str, table: Capabilities, rules: Rules, name: str) -> Problem:
    known = sorted(table.options)
    # Both parsers take unique prefixes, and vLLM's takes underscores too: anyone who used one meant that option.
    plain = name.replace("_", "-")
    meant = [plain] if plain in table.options else [option for option in known if option.startswith(plain)]
    meant = meant or [option for option in rules.owned if option.startswith(plain)]
    dotted = name.split(".", 1)[0]
    if "." in name and dotted in table.options:
        text = f"{name}: dotted options are not supported; give {dotted} a JSON object instead"
        return wrong_field("UnsupportedArgument", FIELD, text)
    if len(plain) > 3 and len(meant) == 1 and meant[0] in rules.owned:
        return _owned(meant[0], rules.owned[meant[0]], name)
    close = (meant or difflib.get_close_matches(name, known, n=3))[:3]
    hint = f"did you mean {' or '.join(close)}?" if close else "remove it"
    text = f"{engine} {table.version} has no option {name}: {hint}"
    return wrong_field("UnknownArgument", FIELD, text)


def _owned(name: str, field: str, written: str | None = None) -> Problem:
    shown = name if written in (None, name) else f"{written} (for {name})"
    if field.startswith("spec."):
        return wrong_field("ConflictingArgument", FIELD, f"{shown} is what {field} says: remove it and set {field}")
    return wrong_field("ConflictingArgument", FIELD, f"{shown} is set by the operator ({field}): remove it")


def _judge(engine: str, table: Capabilities, rules: Rules, item: Given) -> list[Problem]:
    for name in item.option.names:
        if name in rules.owned:
            return [_owned(name, rules.owned[name], item.name)]
        if name in rules.refused:
            return [wrong_field("UnsupportedArgument", FIELD, f"{item.name} {rules.refused[name]}")]
    return [*_arity(item), *_values(engine, table, rules, item)]


def _arity(item: Given) -> list[Problem]:
    count = len(item.values)
    fits = {"0": count == 0, "1": count == 1, "?": count <= 1, "*": True, "+": count >= 1}
    if fits.get(item.option.takes, True):
        return []
    expected = {"0": "no value", "1": "one value", "+": "at least one value"}.get(item.option.takes, "fewer values")
    text = f"{item.name} takes {expected}, {count} given; a value that begins with - is written {item.name}=VALUE"
    return [wrong_field("InvalidArgument", FIELD, text)]


def _values(engine: str, table: Capabilities, rules: Rules, item: Given) -> list[Problem]:
    refusals = []
    passes, form = rules.shapes.get(item.option.names[0], (None, ""))
    for value in item.values if item.option.takes != "0" else ():
        problem = _value_problem(item.option, value)
        if problem is None and passes is not None and not passes(value):
            problem = f"is no {form}"
        if problem is not None:
            text = f"{item.name}: {value!r} {problem}"
            refusals.append(wrong_field("InvalidArgument", FIELD, text))
    catalogue = rules.catalogues.get(item.name)
    if catalogue is not None and item.values and not refusals:
        known = table.names[catalogue]
        # A chat template may also be a file; only the pod sees whether it exists.
        is_file = catalogue == "chat_templates" and ("/" in item.values[0] or "." in item.values[0])
        if known and item.values[0] not in known and not is_file:
            text = (
                f"{engine} {table.version} knows no {item.name} {item.values[0]!r} and would stop at start; "
                f"expected one of {', '.join(sorted(known))}"
            )
            refusals.append(wrong_field("InvalidArgument", FIELD, text))
    return refusals


def is_adapter(value: str) -> bool:
    """Whether vLLM reads the value as an adapter: NAME=PATH, or JSON with name and path.

    vLLM 0.20.2 and 0.33.0, entrypoints/openai/cli_args.py, LoRAParserAction.
    """
    if not value:
        return True
    if "=" in value and "," not in value:
        return value.count("=") == 1
    try:
        content = _json(value)
    except ValueError:
        return False
    names = set(content) if isinstance(content, dict) else set()
    return {"name", "path"} <= names <= {"name", "path", "base_model_name"}


def _is_json(name: str, value: str) -> bool:
    try:
        content = _json(value)
    except ValueError:
        return False
    return isinstance(content, dict) or not name.endswith("-config")


def _value_problem(option: Option, value: str) -> str | None:
    if option.choices:
        # `None` among the choices is Python's, for leaving the option out; no text equals it.
        possible = [choice for choice in option.choices if choice != "None"]
        return None if value in possible else f"is not allowed; expected one of {', '.join(possible)}"
    if option.type == "number" and whole_number(value) is None:
        return "is not a number that the engine reads; expected such as 4096, 4k or 4G (not 4Gi)"
    if option.type == "other" and option.names[0].endswith(_STRUCTURED) and not _is_json(option.names[0], value):
        return "is not a JSON object" if option.names[0].endswith("-config") else "is not JSON"
    reader = _READERS.get(option.type)
    if reader is not None:
        try:
            reader[0](value)
        except ValueError:
            return f"is not {reader[1]}"
    return None
