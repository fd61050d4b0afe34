"""`kubectl llm explain`: what a reason of a condition means and what to do, or a field and what its change restarts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from llm_operator.cli.errors import BadInputError
from llm_operator.reasons import NAMES, REASONS, Reason, explain, similar

MOST_SHOWN = 80
CONDITIONS = {name.lower(): name for reason in REASONS for name in reason.conditions}
# Words of `kubectl get pods` and of events, and the operator's reason for the same.
OF_PODS = {
    "crashloopbackoff": "EngineFailed",
    "createcontainerconfigerror": "ContainerConfigError",
    "errimagepull": "ImagePullFailed",
    "failedscheduling": "Unschedulable",
    "imagepullbackoff": "ImagePullFailed",
    "invalidimagename": "InvalidImage",
    "oomkilled": "HostMemoryExhausted",
}
INDEX = re.compile(r"\[[^\]]*\]")
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser(
        "explain", help="what a reason or a field means", description=__doc__, allow_abbrev=False
    )
    line.add_argument(
        "word",
        metavar="REASON|FIELD",
        nargs="?",
        help="such as Unschedulable, or kvCache.quantization; without it: all reasons",
    )


def run(chosen: argparse.Namespace) -> int:
    """Print the meanings of a reason, or of a field.

    Raises:
        BadInputError: there is no such reason or field.
    """
    word = chosen.word
    if word is None:
        print("\n".join(sorted(NAMES)))
        return 0
    found = explain(word)
    if found:
        print("\n\n".join("\n".join(_reason(reason)) for reason in found))
        return 0
    if word.lower() in CONDITIONS:
        print("\n".join(_condition(CONDITIONS[word.lower()])))
        return 0
    if word[:1].isupper():
        raise BadInputError([f"there is no reason {word[:MOST_SHOWN]!r}{_near(word, NAMES)}"])
    print("\n".join(_field(word)))
    return 0


def _near(word: str, names: Iterable[str]) -> str:
    lower = {name.lower(): name for name in names}
    same = [lower[word.lower()]] if word.lower() in lower else []
    of_pods = [OF_PODS[word.lower()]] if word.lower() in OF_PODS else []
    near = [
        *same,
        *of_pods,
        *similar(word),
        *(lower[name] for name in get_close_matches(word.lower(), lower, cutoff=0.75)),
    ]
    if not near:
        return "; without a name, all reasons are listed"
    return f"; did you mean {', '.join(list(dict.fromkeys(near))[:3])}?"


def _reason(reason: Reason) -> Iterator[str]:
    yield f"{reason.name} ({reason.area}, {reason.severity}; {', '.join(reason.conditions)})"
    yield _plain(reason.meaning)
    if reason.remedy:
        yield f"What to do: {_plain(reason.remedy)}"
    if reason.fields:
        yield f"Fields: {', '.join(reason.fields)}"
    if reason.stalls:
        yield f"Stalls {reason.stalls}"


def _plain(text: str) -> str:
    return LINK.sub(r"docs/\1", text)


def _condition(name: str) -> Iterator[str]:
    yield f"{name} is a condition: `kubectl llm status NAME` shows it, and docs/status.md says what it means"
    yield f"Reasons: {', '.join(sorted({reason.name for reason in REASONS if name in reason.conditions}))}"


def _field(word: str) -> Iterator[str]:
    from llm_operator.api.schema import structural  # noqa: PLC0415 - a fifth of a second
    from llm_operator.api.spec import LLMDeploymentSpec  # noqa: PLC0415
    from llm_operator.manifests.common import KEPT_OUT, reaches_pods  # noqa: PLC0415

    names = [name for name in INDEX.sub("", word).split(".") if name]
    if names[:1] == ["status"]:
        raise BadInputError([f"only fields of spec are explained: see kubectl explain llmdeployment.{'.'.join(names)}"])
    names = names[1:] if names[:1] == ["spec"] else names
    schema: Mapping[str, Any] = structural(LLMDeploymentSpec)
    path: list[str] = []
    for name in names:
        while "items" in schema:
            schema = schema["items"]
        known = {**_of_pod(path), **schema.get("properties", {})}
        if name not in known:
            raise BadInputError([_no_field(word, path, name, known)])
        path.append(name)
        schema = known[name]
    yield f"{'.'.join(['spec', *path])}{_kind(schema)}"
    if schema.get("description"):
        yield str(schema["description"])
    below = _of_pod(path) or schema.get("properties") or (schema.get("items") or {}).get("properties")
    if below:
        yield f"Fields: {', '.join(below)}"
    kept = [".".join(name) for name in KEPT_OUT if path and name[: len(path)] == tuple(path) and len(name) > len(path)]
    if path and not reaches_pods(path):
        yield "A change keeps the engine's pods."
    elif path:
        yield (
            "A change replaces the engine's pods, one after the other: with one replica nothing answers until the new "
            "pod is ready." + (f" These do not: {', '.join(kept)}." if kept else "")
        )


def _of_pod(path: Sequence[str]) -> Mapping[str, Any]:
    """What an overlay may have at a path, which no schema of ours declares; empty outside of overlays' specs."""
    from llm_operator.manifests.overlay import FIELDS, pod_fields  # noqa: PLC0415

    overlays = (tuple(field.split(".")[1:]) for field in FIELDS.values())
    below = next((path[len(above) :] for above in overlays if tuple(path[: len(above)]) == above), ())
    if below[:1] != ["spec"]:
        return {}
    return {name: {"type": kind, "description": _as_in_a_pod(below, name)} for name, kind in pod_fields(below).items()}


def _as_in_a_pod(below: Sequence[str], name: str) -> str:
    return f"As in a pod: see kubectl explain {'.'.join(('pod', *below, name))}"


def _kind(schema: Mapping[str, Any]) -> str:
    parts = [str(schema["type"])] if "type" in schema else []
    parts += [f"one of {', '.join(map(str, schema['enum']))}"] if "enum" in schema else []
    parts += [f"{word} {schema[name]:,}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in schema]
    parts += [f"default {schema['default']}"] if schema.get("default") not in (None, {}, []) else []
    return f" ({', '.join(parts)})" if parts else ""


def _no_field(word: str, path: list[str], name: str, known: Mapping[str, Any]) -> str:
    if "." not in word and not path:
        return f"there is no reason or field {name[:MOST_SHOWN]!r}{_near(word, (*NAMES, *known))}"
    where = ".".join(["spec", *path])
    if not known:
        return f"{where} has no fields"
    lower = {field.lower(): field for field in known}
    near = [lower[found] for found in get_close_matches(name.lower(), lower, n=3)]
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
    return f"{where} has no field {name[:MOST_SHOWN]!r}; {hint}"
