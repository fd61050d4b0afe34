"""What each engine version's command line takes, as its parser defines it; tests/engines/tables.py writes the data."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any

from llm_operator.memory.versions import release

__all__ = ["Capabilities", "Option", "OptionTable", "release"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option of an engine's command line.

    Attributes:
        names: exact option strings, the longest first.
        takes: values it takes: `0`, `1`, `?`, `*` or `+`.
        type: `flag`, `int`, `float`, `str`, `json`, `number` (with a suffix such as 4G) or `other`.
        choices: allowed values; empty if the parser does not limit them.
    """

    names: tuple[str, ...]
    takes: str
    type: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one engine version can do.

    Attributes:
        version: the requested version; it names the image.
        measured: the version whose parser the options come from.
        options: every option by each of its names.
        names: catalogues of names that the parser does not check, such as `tool_parsers`.
    """

    version: str
    measured: str
    options: Mapping[str, Option]
    names: Mapping[str, frozenset[str]]

    @property
    def release(self) -> tuple[int, int, int, int]:
        """The version as numbers, for comparisons."""
        return release(self.version)


class OptionTable:
    """The options of every measured version of one engine, read from a file on first use."""

    def __init__(self, source: Traversable) -> None:
        self._source = source

    @functools.cached_property
    def _data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self._source.read_text())  # noqa: TID251 - the package's own data
        return data

    @functools.cached_property
    def versions(self) -> tuple[str, ...]:
        """Versions whose parser was measured, oldest first."""
        return tuple(self._data["versions"])

    @property
    def newest(self) -> str:
        """The version that a spec without one gets."""
        return self.versions[-1]

    def nearest(self, version: str) -> tuple[str, ...]:
        """The known versions next below and next above a version, oldest first."""
        asked = release(version)
        below = [known for known in self.versions if release(known) < asked]
        above = [known for known in self.versions if release(known) > asked]
        return (*below[-1:], *above[:1])

    @functools.lru_cache(maxsize=256)  # noqa: B019 - a table is one of a few, and lives as long as the process
    def capabilities(self, version: str | None) -> Capabilities | None:
        """What a version can do; None if the operator does not know it.

        `0.18` means the newest known 0.18. A patch release that was never measured has the options of the newest known
        one of its minor release, unless it is older than all of them.
        """
        versions = self.versions
        if version is None:
            version = versions[-1]
        if version in versions:
            return self._of(version, version)
        asked = release(version)
        same_minor = [known for known in versions if release(known)[:2] == asked[:2]]
        if not same_minor:
            return None
        if version.count(".") == 1:
            return self._of(same_minor[-1], same_minor[-1])
        if asked < release(same_minor[0]):
            return None
        return self._of(version, same_minor[-1])

    def _of(self, version: str, measured: str) -> Capabilities:
        data = self._data
        place = self.versions.index(measured)

        def entries(key: str) -> list[Any]:
            index = self.versions.index
            return [span["entry"] for span in data[key] if index(span["first"]) <= place <= index(span["last"])]

        options: dict[str, Option] = {}
        for entry in entries("options"):
            option = Option(tuple(entry["names"]), entry["takes"], entry["type"], tuple(entry["choices"] or ()))
            options.update(dict.fromkeys(option.names, option))
        names = {key: frozenset(entries(key)) for key in data if key not in ("versions", "options")}
        return Capabilities(version, measured, MappingProxyType(options), MappingProxyType(names))
