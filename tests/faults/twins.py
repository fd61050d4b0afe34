"""The oracle of long histories: a fresh object with the last valid spec must look the same."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from llm_operator.api import API_VERSION, KIND
from tests.cluster.helpers import Space
from tests.faults.scenarios import claim
from tests.faults.state import snapshot, without_revisions
from tests.faults.world import Case, World

JSON = dict[str, Any]


def whole(name: str, spec: JSON) -> JSON:
    """An object with a spec."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def comparable(state: JSON) -> JSON:
    """What does not depend on what was before: Jobs stay as the records of models that nobody uses any more."""
    reduced = without_revisions(state)
    for body in reduced.get(KIND, {}).values():
        # Told once an engine's metrics were asked for, which nobody answers here.
        body["status"].pop("measured", None)
    reduced.pop("Job", None)
    reduced["Pod"] = {name: count for name, count in reduced.get("Pod", {}).items() if " of Job:" not in name}
    text = re.sub(r'"observedGeneration": \d+', '"observedGeneration": 0', json.dumps(reduced))
    plain: JSON = json.loads(text)
    return plain


def answered(space: Space) -> bool:
    """Every object is Ready or Stalled, for its generation."""
    for body in space.plane.request("GET", space.path(KIND))["items"]:
        status = body.get("status") or {}
        ends = {entry["type"] for entry in status.get("conditions") or () if entry["status"] == "True"}
        if status.get("observedGeneration") != body["metadata"]["generation"] or not ends & {"Ready", "Stalled"}:
            return False
    return True


def twin_state(world: World, specs: dict[str, JSON]) -> JSON:
    """What fresh objects with these specs come to."""
    with Case(world, "twin") as twin:
        claim()(twin)
        for name, spec in specs.items():
            twin.space.create(whole(name, spec))
        twin.rest(answered, quiet=2.0)
        return comparable(snapshot(twin.space))


def jobs_missing(case: Case) -> str:
    """Which Job was made twice under two uids at a time; a name can only be there once, so this is about claims too."""
    doubled = {path: count for path, count in case.proxy.made().items() if count > 1 and "persistentvolume" in path}
    return f"made twice: {doubled}" if doubled else ""


def replace_spec(space: Space, name: str, spec: JSON) -> None:
    """Replace a spec as a whole."""
    patch = [{"op": "replace", "path": "/spec", "value": spec}]
    space.plane.request("PATCH", space.path(KIND, name), patch, "application/json-patch+json")


def pause(seconds: float) -> None:
    """Give the operator a moment, or none."""
    time.sleep(seconds)
