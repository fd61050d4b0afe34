"""`kubectl llm history`: what an engine was rendered as, and what each change of it changed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llm_operator.cli.cluster import Cluster, RequestRefusedError
from llm_operator.cli.errors import one_line
from llm_operator.cli.pods import CONTAINER, duration, seconds_since
from llm_operator.cli.screen import columns
from llm_operator.cli.table import add_output, aligned, print_document
from llm_operator.cli.where import add_where, connected
from llm_operator.foreign import read_object

JSON = dict[str, Any]

ANNOTATION_REVISION = "llm-operator.dev/revision"
ANNOTATION_ENGINE = "llm-operator.dev/engine"
ANNOTATION_MODEL = "llm-operator.dev/model"
ANNOTATION_RESTARTED = "llm-operator.dev/restartedAt"
LABEL_DEPLOYMENT = "llm-operator.dev/deployment"
"""As in llm_operator.manifests.common, whose package takes half a second to import; a test holds them together."""
HEAD = ("REVISION", "AGE", "RUNS", "ENGINE", "PLAN", "CHANGED")
MOST_NAMED = 4
"""Options or variables of one change that are named."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser(
        "history", help="its revisions, and what each one changed", description=__doc__, allow_abbrev=False
    )
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    add_where(line)
    add_output(line)


def run(chosen: argparse.Namespace) -> int:
    """Print the revisions, the newest last.

    Raises:
        BadInputError: no such object, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    body = cluster.object(str(namespace), chosen.name)
    found = revisions_of(cluster, str(namespace), chosen.name, body["metadata"]["uid"])
    running = running_revision(cluster, str(namespace), chosen.name)
    if chosen.output in ("json", "yaml"):
        print_document({"items": found, "running": running}, chosen.output)
        return 0
    if not found:
        print(f"{chosen.name}: no revision: nothing was rendered yet, or an operator before revisions made the engine")
        return 0
    print(aligned(rows(found, running), columns() - 1 if sys.stdout.isatty() and chosen.output == "table" else None))
    return 0


def revisions_of(cluster: Cluster, namespace: str, name: str, uid: str) -> list[JSON]:
    """The revisions that an object controls, by number.

    Raises:
        BadInputError: the API server refuses, or cannot be reached.
    """
    found = cluster.list("apis/apps/v1", "controllerrevisions", namespace, f"{LABEL_DEPLOYMENT}={name}")
    own = [one for one in found if uid in _controllers(one["metadata"])]
    return sorted(own, key=lambda one: (_number(one), one["metadata"]["name"]))


def _controllers(meta: Mapping[str, Any]) -> list[Any]:
    return [owner.get("uid") for owner in meta.get("ownerReferences") or () if owner.get("controller")]


def running_revision(cluster: Cluster, namespace: str, name: str) -> str:
    """The name of the revision that runs; empty if nothing runs."""
    try:
        body = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}", f"get Deployment {name}")
    except RequestRefusedError as error:
        if error.status != 404:
            raise
        return ""
    return str((body["metadata"].get("annotations") or {}).get(ANNOTATION_REVISION, ""))


def rows(found: Sequence[JSON], running: str) -> list[Sequence[str]]:
    """The lines of the table."""
    lines: list[Sequence[str]] = [HEAD]
    for before, one in zip((None, *found), found, strict=False):
        meta = one["metadata"]
        lines.append(
            (
                str(_number(one)),
                _age(meta.get("creationTimestamp")),
                "yes" if meta["name"] == running else "",
                one_line(_engine(one)),
                one_line(_plan(one)),
                one_line("; ".join(changes(before, one)) if before is not None else "first"),
            )
        )
    return lines


def changes(before: JSON, after: JSON) -> Iterator[str]:
    """What a revision changed, in the words of the pod template."""
    old, new = _template(before), _template(after)
    old_container, new_container = _container(old), _container(new)
    if _image(old_container) != _image(new_container):
        yield f"image {_image(new_container)}"
    changed = _changed(_options(old_container), _options(new_container))
    if changed:
        yield f"options {_named(changed)}"
    changed = _changed(_variables(old_container), _variables(new_container))
    if changed:
        yield f"variables {_named(changed)}"
    for word, name in (("model", ANNOTATION_MODEL), ("restart", ANNOTATION_RESTARTED)):
        if _annotation(old, name) != _annotation(new, name):
            yield word
    if old_container.get("resources") != new_container.get("resources"):
        yield "resources"
    if _rest(old) != _rest(new):
        yield "pod"
    if _data(before).get("plan") != _data(after).get("plan"):
        yield "plan"


def _age(created: Any) -> str:
    seconds = seconds_since(created, datetime.now(UTC))
    return duration(max(0.0, seconds)) if seconds is not None else "-"


def _number(one: Mapping[str, Any]) -> int:
    number = one.get("revision")
    return number if isinstance(number, int) else 0


def _dictionary(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _data(one: Mapping[str, Any]) -> Mapping[str, Any]:
    return _dictionary(one.get("data"))


def _template(one: Mapping[str, Any]) -> Mapping[str, Any]:
    return _dictionary(_data(one).get("template"))


def _pod(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return _dictionary(template.get("spec"))


def _container(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in _containers(template) if one.get("name") == CONTAINER), {})


def _containers(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    containers = _pod(template).get("containers")
    return [_dictionary(one) for one in containers] if isinstance(containers, list) else []


def _annotation(template: Mapping[str, Any], name: str) -> str:
    return str(_dictionary(_dictionary(template.get("metadata")).get("annotations")).get(name, ""))


def _engine(one: Mapping[str, Any]) -> str:
    engine = read_object(_annotation(_template(one), ANNOTATION_ENGINE))
    return " ".join(str(engine[part]) for part in ("type", "version", "backend") if engine.get(part)) or "-"


def _plan(one: Mapping[str, Any]) -> str:
    record = _dictionary(_data(one).get("plan"))
    plan = _dictionary(record.get("plan"))
    words = [str(record.get("verdict") or "-")]
    if isinstance(plan.get("gpusPerReplica"), int):
        words.append(f"{plan['gpusPerReplica']} GPU{'s' * (plan['gpusPerReplica'] != 1)}")
    if isinstance(plan.get("kvTokens"), int):
        words.append(f"{plan['kvTokens']:,} KV tokens")
    return ", ".join(words)


def _image(container: Mapping[str, Any]) -> str:
    return str(container.get("image", "-"))


def _options(container: Mapping[str, Any]) -> dict[str, str]:
    """The options of a command line with their values."""
    found: dict[str, str] = {}
    option = ""
    args = container.get("args")
    for word in map(str, args if isinstance(args, list) else ()):
        if word.startswith("--"):
            option, _, value = word.partition("=")
            found[option] = value
        elif option:
            found[option] = f"{found[option]} {word}"
        else:
            found[""] = word
    return found


def _variables(container: Mapping[str, Any]) -> dict[str, str]:
    env = container.get("env")
    entries = [_dictionary(one) for one in (env if isinstance(env, list) else ())]
    return {str(one.get("name")): json.dumps(one, sort_keys=True) for one in entries}


def _rest(template: Mapping[str, Any]) -> Any:
    """The parts of a pod's spec that the table does not name separately."""
    own = ("image", "args", "env", "resources")
    container = {name: value for name, value in _container(template).items() if name not in own}
    others = [one for one in _containers(template) if one.get("name") != CONTAINER]
    pod = {name: value for name, value in _pod(template).items() if name != "containers"}
    return {**pod, "container": container, "others": others}


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(name or "the model's path" for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
