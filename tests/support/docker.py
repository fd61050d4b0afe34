"""The docker commands of the documentation and of the Dockerfiles' own comments, and what the Dockerfiles hold."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

from devcluster.cache import ROOT
from tests.support.pages import all_lines

DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise AssertionError(message)


@dataclass(frozen=True, slots=True)
class Docker:
    """A docker command.

    Attributes:
        where: the page or Dockerfile that prints it.
        words: after `docker`.
    """

    where: str
    words: tuple[str, ...]

    @property
    def verb(self) -> str:
        """`build`, `push` or `run`."""
        return self.words[0]

    @property
    def options(self) -> argparse.Namespace:
        """Its options, those that the documentation uses; another one is an error."""
        line = _Parser(prog=f"docker {self.verb}")
        if self.verb == "build":
            line.add_argument("-f", "--file", type=Path)
            line.add_argument("-t", "--tag", required=True)
            line.add_argument("--build-arg", action="append", default=[])
            line.add_argument("context", type=Path)
        elif self.verb == "push":
            line.add_argument("tag")
        else:
            assert self.verb == "run", self
            line.add_argument("--rm", action="store_true")
            line.add_argument("-p", "--publish", required=True)
            line.add_argument("tag")
            line.add_argument("arguments", nargs=argparse.REMAINDER)
        return line.parse_args(self.words[1:])


def docker_commands() -> list[Docker]:
    """All of them."""
    printed = [(line.page, line.text) for line in all_lines() if line.text.startswith("docker ")]
    for path in DOCKERFILES:
        where = str(path.relative_to(ROOT))
        printed += [(where, found) for found in re.findall(r"^#\s+(docker .+)$", path.read_text(), re.MULTILINE)]
    return [Docker(where, tuple(shlex.split(text, comments=True)[1:])) for where, text in printed]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What a Dockerfile says, as far as its users see it."""

    path: Path

    @property
    def _lines(self) -> list[tuple[str, str]]:
        text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", self.path.read_text(), flags=re.MULTILINE))
        return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines())]

    @property
    def arguments(self) -> set[str]:
        """What --build-arg may set."""
        return {rest.partition("=")[0] for word, rest in self._lines if word == "ARG"}

    @property
    def ports(self) -> set[int]:
        """Ports that it exposes."""
        return {int(port) for word, rest in self._lines if word == "EXPOSE" for port in rest.split()}

    @property
    def entrypoint(self) -> list[str]:
        """The program that runs."""
        (found,) = (rest for word, rest in self._lines if word == "ENTRYPOINT")
        return [str(word) for word in json.loads(found)]

    @property
    def environment(self) -> dict[str, str]:
        """Its variables, without those that hold another one."""
        pairs = (pair.partition("=") for word, rest in self._lines if word == "ENV" for pair in shlex.split(rest))
        return {name: value for name, _, value in pairs if "$" not in value}

    def copied(self) -> Iterator[str]:
        """What it takes from its context."""
        for word, rest in self._lines:
            if word in ("COPY", "ADD") and "--from" not in rest:
                yield from rest.split()[:-1]

    def ignored(self, context: Path, name: str) -> bool:
        """Whether .dockerignore keeps a file of the context out; the last pattern that matches decides."""
        lists = (self.path.with_name("Dockerfile.dockerignore"), context / ".dockerignore")
        text = next((path.read_text() for path in lists if path.exists()), "")
        parts = Path(name).parts
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        verdict = False
        for line in text.splitlines():
            pattern = line.strip().removeprefix("!").removeprefix("**/")
            anywhere = [parts[-1]] if "**/" in line else []
            if pattern and any(fnmatch(part, pattern) for part in (*above, *anywhere)):
                verdict = not line.startswith("!")
        return verdict
