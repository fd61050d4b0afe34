"""Manifests as a command line names them: files, standard input, several documents, Lists."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.further import further
from llm_operator.cli.strict import GivenTwiceError, StrictLoader, decoded, unknown_fields

# As much as the API server takes in one request.
MANIFEST_LIMIT_BYTES = 3 << 20
# Values of one document. Aliases let a short text stand for a value that grows without end.
MOST_VALUES = 200_000
SHOWN_CHARACTERS = 200
ENDINGS = (".yaml", ".yml", ".json")


def read_manifests(names: Sequence[str], namespace: str | None = None) -> list[LLMDeployment]:
    """All LLMDeployments of some files; other kinds are passed over.

    Args:
        names: paths; `-` is standard input; of a directory the files that end with .yaml, .yml or .json, as in kubectl.
        namespace: of objects that name none; another one is refused, as by kubectl.

    Raises:
        BadInputError: every file that cannot be read and every field that is wrong.
    """
    problems: list[str] = []
    found: list[LLMDeployment] = []
    for name in _files(names, problems):
        read, problem = documents(name)
        problems += [problem] if problem else []
        for number, document in enumerate(read, start=1):
            if document is not None:
                _take(document, f"{name}[{number}]", found, problems)
    if namespace is not None:
        found = [_placed(resource, namespace, problems) for resource in found]
    if not found and not problems:
        problems.append(f"no {KIND} of {API_VERSION} in {', '.join(names)}")
    if problems:
        raise BadInputError(problems)
    return found


def _placed(resource: LLMDeployment, namespace: str, problems: list[str]) -> LLMDeployment:
    meta = resource.metadata
    if "namespace" in meta.model_fields_set and meta.namespace != namespace:
        problems.append(f"{meta.name}: metadata.namespace is {meta.namespace!r}, but -n says {namespace!r}")
    return resource.model_copy(update={"metadata": meta.model_copy(update={"namespace": namespace})})


def _files(names: Sequence[str], problems: list[str]) -> list[str]:
    """The files that are named, and those of the directories that are."""
    found: list[str] = []
    for name in names:
        if not name:
            problems.append("-f is empty: give a file, a directory, or - for standard input")
        elif name != "-" and Path(name).is_dir():
            try:
                inside = sorted(str(path) for path in Path(name).iterdir() if path.suffix in ENDINGS and path.is_file())
            except OSError as error:
                problems.append(f"{name}: cannot be read: {error.strerror or error}")
                continue
            if not inside:
                problems.append(f"{name}: the directory has no file that ends with {', '.join(ENDINGS)}")
            found += inside
        else:
            found.append(name)
    return found


def documents(name: str) -> tuple[list[Any], str | None]:
    """The documents of a file, `-` for standard input; else none, and why."""
    try:
        return list(yaml.load_all(_text(name), StrictLoader)), None  # noqa: TID251 - bounded, by a safe loader
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except RecursionError:
        problem = "is nested too deeply for a manifest"
    except BadInputError as error:
        problem = str(error)
    except GivenTwiceError as error:
        problem = str(error)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that cannot be
        problem = f"is not valid YAML: {' '.join(str(error).split())[:SHOWN_CHARACTERS]}"
    return [], f"{name}: {problem}"


def _text(name: str) -> str:
    if name == "-":
        content = sys.stdin.buffer.read(MANIFEST_LIMIT_BYTES + 1)
    else:
        with Path(name).open("rb") as file:
            content = file.read(MANIFEST_LIMIT_BYTES + 1)
    if len(content) > MANIFEST_LIMIT_BYTES:
        raise BadInputError([f"is larger than {MANIFEST_LIMIT_BYTES} bytes, more than an API server takes"])
    return decoded(content)


def _values(document: Any) -> Iterator[None]:
    """One for each value that writing the document out would write; without end where it contains itself."""
    stack = [document]
    while stack:
        value = stack.pop()
        yield
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list | tuple | set):
            stack += value


def _take(document: Any, where: str, found: list[LLMDeployment], problems: list[str]) -> None:
    if sum(1 for _ in islice(_values(document), MOST_VALUES)) == MOST_VALUES:
        problems.append(f"{where}: holds {MOST_VALUES} values or more, or contains itself: that is not a manifest")
        return
    if not isinstance(document, dict):
        problems.append(f"{where}: is a {type(document).__name__}, expected an object with apiVersion and kind")
        return
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        for index, item in enumerate(document["items"]):
            _take(item, f"{where}.items[{index}]", found, problems)
        return
    if document.get("kind") != KIND:
        # Whatever else of this group it is called, it is a misspelt one: there is no other kind.
        if str(document.get("apiVersion")) == API_VERSION:
            problems.append(f"{where}: kind is {str(document.get('kind'))[:60]!r}, expected {KIND!r}")
        return
    if document.get("apiVersion") != API_VERSION:
        problems.append(f"{where}: apiVersion is {str(document.get('apiVersion'))[:60]!r}, expected {API_VERSION!r}")
        return
    problems += [f"{where}: {field}: {message}" for field, message in unknown_fields(document)]
    try:
        found.append(LLMDeployment.parse(document))
    except InvalidResource as invalid:
        hidden = further(document, invalid.errors) if isinstance(document.get("spec"), dict) else []
        problems += [f"{where}: {field}: {message}" for field, message in (*invalid.errors, *hidden)]
