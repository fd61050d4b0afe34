"""Typed, bounded access to config.json: a wrong type or an absurd size is an error here, never a wrong plan later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from llm_operator.models.errors import InvalidModelConfigError, MissingFieldError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAXIMUM_BYTES = 64 << 20

# Highest sizes that are taken for real, well above any published model; beyond them a file is broken.
LIMITS = {
    "num_hidden_layers": 2048,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 23,
    "vocab_size": 1 << 24,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 30,
}
DEFAULT_LIMIT = 1 << 24


_JSON_KINDS: Mapping[type, str] = {type(None): "null", list: "array", str: "string", bool: "boolean"}
_OTHER_KINDS = (
    (
        b"GGUF",
        "a GGUF file, which LMDeploy and vLLM do not plan: give the model's config.json of the original repository",
    ),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull, or download it again"),
    (b"PK\x03\x04", "a ZIP archive, such as weights of PyTorch: give the model's config.json"),
    (b"\x1f\x8b", "a gzip file: unpack it"),
    (b"\x80\x02", "a Python pickle, such as weights of PyTorch: give the model's config.json"),
    *((mark, "UTF-16 text: save it as UTF-8, as the engines read it") for mark in (b"\xff\xfe", b"\xfe\xff")),
)


def _other_kind(content: str | bytes) -> str | None:
    """What the content is, by its first bytes, if it is something that people download instead of JSON."""
    start = content[:512].encode(errors="replace") if isinstance(content, str) else content[:512]
    for begin, kind in _OTHER_KINDS:
        if start.startswith(begin):
            return kind
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "an HTML page, not JSON: the hub, or a proxy on the way, answered with a page; download the file itself"
    if start[8:9] == b"{" and b"\0" in start[:8]:
        return "a safetensors file: give the model's config.json, or the folder that holds both"
    if b"\0" in start[:4]:
        return "UTF-16 or UTF-32 text: save it as UTF-8, as the engines read it"
    if start.startswith(b"\xef\xbb\xbf"):
        return "UTF-8 with a byte order mark, which the engines' reader (transformers) refuses: save it without"
    return None


_HALF_A_PAIR: Mapping[type, re.Pattern[Any]] = {
    str: re.compile(r"\\u[dD][89a-fA-F]"),
    bytes: re.compile(rb"\\u[dD][89a-fA-F]"),
}


def _encodable(value: object) -> bool:
    """Whether text of it can be written anywhere: json reads "\\ud800", which no encoding has."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def load_json(content: str | bytes, what: str) -> dict[str, Json]:
    """Read a JSON object; `what` names the file in messages.

    Raises InvalidModelConfigError when it is empty, truncated, too large, not UTF-8 or not an object.
    """
    if len(content) > MAXIMUM_BYTES:
        raise InvalidModelConfigError(f"{what} has {len(content)} bytes; expected at most {MAXIMUM_BYTES}")
    if not content.strip():
        raise InvalidModelConfigError(f"{what} is empty: download it again")
    other = _other_kind(content)
    if other is not None:
        raise InvalidModelConfigError(f"{what} is {other}")
    try:
        # json, not foreign.read_json: its error says where a truncated file ends. The same bounds hold.
        value = json.loads(content)  # noqa: TID251
    except UnicodeDecodeError as error:
        raise InvalidModelConfigError(f"{what} is not UTF-8: save it as UTF-8, as the engines read it") from error
    except RecursionError as error:
        raise InvalidModelConfigError(f"{what} is nested too deeply to be a model's: download it again") from error
    except json.JSONDecodeError as error:
        raise InvalidModelConfigError(
            f"{what} is not complete JSON: {error.msg} at line {error.lineno}, column {error.colno};"
            " it may be truncated: download it again"
        ) from error
    except ValueError as error:  # an integer with thousands of digits
        raise InvalidModelConfigError(f"{what} holds a number of thousands of digits; no field of it is so") from error
    if _HALF_A_PAIR[type(content)].search(content) and not _encodable(value):
        raise InvalidModelConfigError(f"{what} holds text that is not Unicode: half of a surrogate pair")
    if not isinstance(value, dict):
        kind = _JSON_KINDS.get(type(value), "number")
        raise InvalidModelConfigError(f"{what} holds a JSON {kind}; expected an object, in braces")
    return cast("dict[str, Json]", value)


class Fields:
    """Fields of one config.json, read with type and range checks; `architecture` is for messages."""

    def __init__(self, values: Mapping[str, Json], architecture: str) -> None:
        self.values = values
        self.architecture = architecture

    def nested(self, name: str) -> Fields:
        """Return the fields of a nested object. Raises MissingFieldError, InvalidModelConfigError."""
        value = self.values.get(name)
        if value is None:
            raise MissingFieldError(self.architecture, [name])
        return Fields(self._object(name, value), self.architecture)

    def optional_object(self, name: str) -> dict[str, Json]:
        """Return a nested object, empty if it is absent or null."""
        value = self.values.get(name)
        return {} if value is None else self._object(name, value)

    def require(self, *names: str) -> None:
        """Raise one MissingFieldError that names every absent field."""
        absent = [name for name in names if self.values.get(name) is None]
        if absent:
            raise MissingFieldError(self.architecture, absent)

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """Return an integer between `least` and the field's limit; `default` where absent or null."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise MissingFieldError(self.architecture, [name])
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._invalid(name, value, "an integer")
        most = LIMITS.get(name, DEFAULT_LIMIT)
        if not least <= value <= most:
            raise self._invalid(name, value, f"a value between {least} and {most}")
        return value

    def optional_integer(self, name: str, *, least: int = 1) -> int | None:
        """Return an integer, or None if absent or null."""
        return None if self.values.get(name) is None else self.integer(name, least=least)

    def boolean(self, name: str, default: bool) -> bool:
        """Return a boolean; `default` where absent or null."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._invalid(name, value, "true or false")
        return value

    def string(self, name: str, default: str) -> str:
        """Return a string; `default` where absent or null."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > 256:
            raise self._invalid(name, value, "a string of at most 256 characters")
        return value

    def number(self, name: str, default: float) -> float:
        """Return a finite number; `default` where absent or null."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
            raise self._invalid(name, value, "a number")
        return float(value)

    def strings(self, name: str, most: int = 4096) -> tuple[str, ...]:
        """Return a list of strings, empty if absent or null."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most or not all(isinstance(item, str) for item in value):
            raise self._invalid(name, value, f"a list of at most {most} strings")
        return tuple(cast("list[str]", value))

    def integers(self, name: str, most: int = 4096) -> tuple[int, ...]:
        """Return a list of integers, empty if absent or null."""
        value = self.values.get(name)
        if value is None:
            return ()
        if (
            not isinstance(value, list)
            or len(value) > most
            or not all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        ):
            raise self._invalid(name, value, f"a list of at most {most} integers")
        return tuple(cast("list[int]", value))

    def _object(self, name: str, value: Json) -> dict[str, Json]:
        if not isinstance(value, dict):
            raise self._invalid(name, value, "an object")
        return value

    def _invalid(self, name: str, value: Json, expected: str) -> InvalidModelConfigError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return InvalidModelConfigError(f"config.json: {name} is {shown}; expected {expected}")


# Names of one number in different releases of transformers; the first that is there fills in the others.
SAME = (
    ("num_experts", "num_local_experts", "n_routed_experts"),
    ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk"),
)


def with_synonyms(values: Mapping[str, Json]) -> dict[str, Json]:
    """Return the values with absent names filled in from names that mean the same."""
    filled = dict(values)
    for names in SAME:
        there = [name for name in names if values.get(name) is not None]
        if there:
            filled |= {name: values[there[0]] for name in names if values.get(name) is None}
    return filled
