"""Metrics of each LLMDeployment, read from the cache once per scrape.

The label values are those of the object itself, so that an alert names the object behind it. Series of an object end
with the object. Between two scrapes the lines of each are kept: prometheus-client takes a third of a millisecond for an
object's, in which the reconciler stands still, and few objects change between two scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.utils import floatToGoString

from llm_operator.live.children import Child
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER as ENGINE_CONTAINER
from llm_operator.manifests.revision import number_and_digest
from llm_operator.reconcile.diagnose import end_reason
from llm_operator.reconcile.workload import counts_of

JSON = Mapping[str, Any]
MAX_LABEL = 128
"""Characters of a label value; longer ones are cut: a repository or an image may be as long as its author likes."""
OBJECT = ("namespace", "name")


@dataclass(frozen=True, slots=True)
class Served:
    """One LLMDeployment as it was last seen.

    Attributes:
        body: the object, with metadata, spec and status as the API server holds them.
        pods: the engine's pods that exist.
        workload: what runs the engine's pods; None: there is nothing.
    """

    body: JSON
    pods: Sequence[Pod] = ()
    workload: Child | None = None


Value = Callable[[Served], float | None]


def _held(holder: JSON, field: str) -> JSON:
    value = holder.get(field)
    return value if isinstance(value, Mapping) else {}


def _status(served: Served) -> JSON:
    return _held(served.body, "status")


def _at(holder: JSON, *path: str) -> float | None:
    value: Any = holder
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _gpus(served: Served) -> float | None:
    spec, status = _held(served.body, "spec"), _status(served)
    each = _at(status, "plan", "gpusPerReplica") or _at(spec, "parallelism", "tensor")
    replicas = _at(spec, "replicas")
    return None if each is None else each * (1.0 if replicas is None else replicas)


def _deviation(served: Served) -> float | None:
    planned = _at(_status(served), "plan", "kvTokens")
    measured = _at(_status(served), "measured", "kvTokens")
    return measured / planned - 1 if planned and measured is not None else None


def _desired(served: Served) -> float:
    replicas = _at(_held(served.body, "spec"), "replicas")
    return 1.0 if replicas is None else replicas


def _updated(served: Served) -> float | None:
    child = served.workload
    return None if child is None else float(counts_of(child).updated)


def _revision(served: Served) -> float | None:
    child = served.workload
    told = number_and_digest(served.body["metadata"]["name"], child.revision) if child is not None else None
    return float(told[0]) if told is not None else None


GAUGES: Sequence[tuple[str, str, Value]] = (
    ("replicas_desired", "Replicas that the spec requests.", _desired),
    ("replicas_ready", "Pods that serve the current spec.", lambda o: _at(_status(o), "readyReplicas") or 0.0),
    ("gpus_requested", "GPUs of all replicas together, by the plan or by parallelism.tensor.", _gpus),
    ("replicas_updated", "Pods of the current revision.", _updated),
    ("revision", "Number of the revision that runs; a rollout raises it.", _revision),
    ("plan_kv_tokens", "KV tokens of one replica, by the plan.", lambda o: _at(_status(o), "plan", "kvTokens")),
    (
        "measured_kv_tokens",
        "KV tokens of one replica, by the engine.",
        lambda o: _at(_status(o), "measured", "kvTokens"),
    ),
    (
        "kv_tokens_deviation_ratio",
        "KV tokens by the engine less those by the plan, as a share of the latter.",
        _deviation,
    ),
    (
        "seconds_to_ready",
        "Seconds from the start of the engine's container to Ready.",
        lambda o: _at(_status(o), "measured", "secondsToReady"),
    ),
    (
        "progress_bytes",
        "Bytes that the stage before serving has read or written.",
        lambda o: _at(_status(o), "progress", "bytes"),
    ),
    ("progress_total_bytes", "Bytes of that stage in all.", lambda o: _at(_status(o), "progress", "totalBytes")),
)
"""Suffix of the metric's name, help and value; an object without the value has no series."""


def _ended(pod: Pod) -> float | None:
    """Unix time of a pod's latest end: its container's, else that of its readiness."""
    moment = (pod.end.finished_at if pod.end is not None else "") or pod.ready_at
    try:
        return datetime.fromisoformat(moment).timestamp() if moment else None
    except ValueError:
        return None


def info_labels(body: JSON) -> dict[str, str]:
    """What an object serves and with what, as labels of `llmdeployment_info`."""
    spec, status = _held(body, "spec"), _held(body, "status")
    asked, runs = _held(spec, "engine"), _held(status, "engine")
    tensor = _at(status, "plan", "tensor") or _at(spec, "parallelism", "tensor")
    return {
        "engine": _text(runs.get("type") or asked.get("type")),
        "backend": _text(runs.get("backend") or asked.get("backend")),
        "version": _text(runs.get("version") or asked.get("version")),
        "model": _text(_model(_held(spec, "model"))),
        "tensor": "" if tensor is None else str(int(tensor)),
        "kv_cache": _text(_held(spec, "kvCache").get("quantization") or "None"),
    }


def _model(model: JSON) -> object:
    for source, field in (("huggingFace", "repository"), ("modelScope", "repository"), ("image", "reference")):
        if isinstance(model.get(source), Mapping):
            return model[source].get(field)
    claim = model.get("persistentVolumeClaim")
    return f"{claim.get('claimName')}/{claim.get('path') or ''}" if isinstance(claim, Mapping) else None


def _text(value: object) -> str:
    return value[:MAX_LABEL] if isinstance(value, str) else ""


class _Family:
    """One metric: its head, and its line for each value."""

    def __init__(self, name: str, text: str, *labels: str, kind: str = "gauge") -> None:
        self.head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        self._before = [f"{name}{{{labels[0]}=", *(f",{label}=" for label in labels[1:])]

    def line(self, values: Sequence[str], number: float) -> str:
        """One sample."""
        labels = "".join([f'{name}"{_escaped(value)}"' for name, value in zip(self._before, values, strict=True)])
        return f"{labels}}} {_number(number)}\n"


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escaped(value: str) -> str:
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


CONDITION = _Family(
    "llmdeployment_condition",
    "1 for the present status and reason of each condition of an LLMDeployment.",
    *OBJECT,
    "type",
    "status",
    "reason",
)
INFO = _Family(
    "llmdeployment_info",
    "1; the labels say what an LLMDeployment serves.",
    *OBJECT,
    "engine",
    "backend",
    "version",
    "model",
    "tensor",
    "kv_cache",
)
RESTARTS = _Family(
    "llmdeployment_engine_restarts_total",
    "Restarts of the engine's container since its pod was created.",
    *OBJECT,
    "pod",
    kind="counter",
)
ENDS = _Family(
    "llmdeployment_engine_last_end_timestamp_seconds",
    "Unix time of the latest end of the engine in a pod, with its reason.",
    *OBJECT,
    "pod",
    "reason",
)
FAMILIES = (
    CONDITION,
    INFO,
    RESTARTS,
    ENDS,
    *(_Family(f"llmdeployment_{suffix}", text, *OBJECT) for suffix, text, _ in GAUGES),
)


class ObjectsText:
    """Every object's conditions, plan and replicas, by namespace and name, in the text format of Prometheus."""

    def __init__(self, objects: Callable[[], Iterable[Served]]) -> None:
        self._objects = objects
        self._known: dict[tuple[str, str], tuple[Served, list[bytes]]] = {}
        """By namespace and name: what was seen last, and its lines of each family."""

    def text(self) -> bytes:
        """The metrics of all objects."""
        known = {}
        for served in self._objects():
            meta = served.body["metadata"]
            key = meta["namespace"], meta["name"]
            before = self._known.get(key)
            known[key] = before if before is not None and _same(before[0], served) else (served, _lines(key, served))
        self._known = known
        every = [lines for _, lines in known.values()]
        head = "# HELP llmdeployment_objects LLMDeployments in the cluster.\n# TYPE llmdeployment_objects gauge\n"
        parts = [head.encode(), f"llmdeployment_objects {_number(len(every))}\n".encode()]
        for number, family in enumerate(FAMILIES):
            parts.append(family.head.encode())
            parts.extend([lines[number] for lines in every])
        # Joined as bytes: the text of 10,000 objects has 15 MB.
        return b"".join(parts)


def _same(before: Served, now: Served) -> bool:
    """Whether nothing has changed: the cache replaces what changes, and changes nothing that it has given out."""
    return before.body is now.body and before.workload is now.workload and before.pods == now.pods


def _lines(key: tuple[str, str], served: Served) -> list[bytes]:
    """The lines of one object, for each family."""
    conditions = [
        CONDITION.line([*key, entry["type"], entry["status"], _text(entry.get("reason"))], 1)
        for entry in _status(served).get("conditions") or ()
    ]
    restarts, ends = [], []
    engine = _text(_held(_held(served.body, "spec"), "engine").get("type"))
    for pod in served.pods:
        if pod.container in ("", ENGINE_CONTAINER):  # else they are those of an init container
            restarts.append(RESTARTS.line([*key, pod.name], pod.restarts))
        reason, moment = end_reason(pod, engine), _ended(pod)
        if reason is not None and moment is not None:
            ends.append(ENDS.line([*key, pod.name, _text(reason)], moment))
    lines = ["".join(conditions), INFO.line([*key, *info_labels(served.body).values()], 1)]
    lines += ["".join(restarts), "".join(ends)]
    for family, (_, _, value) in zip(FAMILIES[len(lines) :], GAUGES, strict=True):
        number = value(served)
        lines.append("" if number is None else family.line(key, number))
    return [one.encode() for one in lines]
