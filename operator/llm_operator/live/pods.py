"""A live pod, reduced to what is decided on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.engines.registry import ENGINES
from llm_operator.foreign import read_object
from llm_operator.live.children import JSON, MESSAGE_CHARACTERS, REASON_CHARACTERS, UID_CHARACTERS, Role
from llm_operator.live.deaths import Life, restarts_when_ready
from llm_operator.live.heard import Heard
from llm_operator.manifests.chat_page import CONTAINER as CHAT_CONTAINER
from llm_operator.manifests.common import ANNOTATION_ENGINE, ANNOTATION_MODEL, LABEL_CHAT, LABEL_INPUTS
from llm_operator.manifests.pod import CONTAINER as ENGINE_CONTAINER
from llm_operator.manifests.tools import CONTAINER as TOOL_CONTAINER

MAIN_CONTAINERS = (ENGINE_CONTAINER, TOOL_CONTAINER, CHAT_CONTAINER)
"""The containers of ours that a pod is about; a pod has one of them."""

_VERSION = re.compile(r"([0-9]{1,4}\.[0-9]{1,4}(?:\.[0-9]{1,4}(?:\.post[0-9]{1,4})?)?)")


# Of the projects' own tags, v0.26.0 and v0.18.0-cu12.8, and of mirrors that keep their names.
_IMAGE_VERSION = r"(?:^|/)(?:%s)[\w.-]*:v?([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(?:\.post[0-9]{1,4})?)(?![\w])"


LAST_WORDS_CHARACTERS = 8 << 10
"""Of a termination message: the kubelet keeps 4,096 bytes; other writers of a pod's status are not bound by that."""


Awaits = Literal["", "Node", "Start"]
"""What a pod that has not started waits for: a node; or the kubelet, for its volumes and its network."""


class Mounted(NamedTuple):
    """What a pod mounts, and so what may be missing.

    Attributes:
        volume: name of the volume in the pod.
        what: as `ConfigMap 'a'`.
    """

    volume: str
    what: str


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How a container ended."""

    exit_code: int
    signal: int | None
    reason: str
    message: str
    finished_at: str = ""
    """RFC 3339; empty: not known."""
    log_unread: str = ""
    """Why the end of its log could not be read, if it was needed."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the engine or of the chat page, reduced to its state."""

    name: str
    uid: str
    resource_version: str
    inputs: str
    """Hash of the inputs that its template was rendered from."""
    deleting: bool
    ready: bool
    phase: str
    unschedulable: str | None
    """The scheduler's message while no node takes the pod."""
    waiting_reason: str | None
    waiting_message: str
    end: ContainerEnd | None
    """The latest end of the engine's container."""
    running: bool
    restarts: int
    started_at: str | None = None
    """When the running container started (RFC 3339)."""
    ready_at: str | None = None
    """When the pod became Ready (RFC 3339)."""
    pod_ip: str | None = None
    """Its address in the cluster, once it has one."""
    container: str = ""
    """The container that the words above are about: the engine's or the tool's, or an init container in trouble."""
    initializing: str | None = None
    """Init container that runs now."""
    role: Role = "engine"
    models: tuple[str, ...] = ()
    """Directories of the cache that it mounts."""
    failure: str = ""
    """Why the kubelet or the node controller gave the pod up as a whole, such as Evicted; empty while no one did."""
    failure_message: str = ""
    restarted_at: str | None = None
    """The request for new pods that it was made for, as its template carries it."""
    restarts_when_ready: int = 0
    """Of `restarts`, those up to the time when the pod was Ready last."""
    controller: tuple[str, str, str] = ("", "", "")
    """Kind, name and uid of what controls it; empty if nothing does."""
    image_volumes: tuple[str, ...] = ()
    """Images that it mounts as volumes, while a container waits."""
    mounts: tuple[Mounted, ...] = ()
    """What the kubelet has yet to mount; empty once the pod has its volumes and its network."""
    awaits: Awaits = ""
    """What it waits for before its containers may start."""
    scheduler: str = ""
    """The scheduler that must find its node, while none has said anything of it."""
    gated: str = ""
    """Why the scheduler leaves it alone: its scheduling gates, such as a queue's."""
    disrupted: str = ""
    """Why Kubernetes ends it, such as a drained node, in the words of its condition DisruptionTarget."""
    node_lost: bool = False
    """Its containers ran when its node was last heard of, which is too long ago."""
    heard: Heard | None = None
    """What Kubernetes' controllers said of it in Events; None: they were not read yet."""
    engine_version: str | None = None
    """The engine's, by its image's tag, else as its template was rendered; None: not known."""

    @property
    def deaths(self) -> int:
        """Restarts since the pod was Ready last."""
        return self.restarts - self.restarts_when_ready


def pod_from(raw: Mapping[str, Any], before: Pod | None = None) -> Pod:
    """Reduce a live pod to its state.

    Args:
        raw: as the API server sent it.
        before: the pod as it was known before, which remembers when it was Ready last.
    """
    meta = raw["metadata"]
    status = raw.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    container = _telling_container(raw, MAIN_CONTAINERS)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        inputs=(meta.get("labels") or {}).get(LABEL_INPUTS, ""),
        deleting="deletionTimestamp" in meta,
        ready=conditions.get("Ready", {}).get("status") == "True",
        phase=status.get("phase", "Unknown"),
        unschedulable=_said(scheduled) if scheduled.get("reason") == "Unschedulable" else None,
        waiting_reason=waiting["reason"][:REASON_CHARACTERS] if waiting.get("reason") else None,
        waiting_message=_said(waiting),
        end=_end(ended) if ended else None,
        running="running" in state,
        restarts=container.get("restartCount", 0),
        restarts_when_ready=restarts_when_ready(
            raw, container, Life(before.uid, before.container, before.restarts_when_ready) if before else None
        ),
        started_at=(state.get("running") or {}).get("startedAt"),
        ready_at=conditions.get("Ready", {}).get("lastTransitionTime"),
        pod_ip=status.get("podIP"),
        container=container.get("name", ""),
        initializing=next(
            (one["name"] for one in status.get("initContainerStatuses") or [] if "running" in (one.get("state") or {})),
            None,
        ),
        role="chat" if LABEL_CHAT in (meta.get("labels") or {}) else "engine",
        models=_mounted_models((meta.get("annotations") or {}).get(ANNOTATION_MODEL)),
        failure=(status.get("reason") or "")[:64],
        failure_message=(status.get("message") or "")[:MESSAGE_CHARACTERS],
        restarted_at=_restart(meta.get("annotations") or {}),
        image_volumes=_image_volumes(raw) if waiting else (),
        mounts=_to_be_mounted(raw) if conditions.get(_SANDBOX, {}).get("status") == "False" else (),
        disrupted=_disruption(conditions.get("DisruptionTarget", {})),
        node_lost=status.get("phase") == "Running" and _node_is_lost(conditions.get("Ready", {}), container),
        awaits=_awaits(raw, conditions.get(_SANDBOX, {}).get("status") == "True"),
        scheduler=str((raw.get("spec") or {}).get("schedulerName") or "")[:NAME_CHARACTERS] if not scheduled else "",
        gated=_said(scheduled) if scheduled.get("reason") == "SchedulingGated" else "",
        engine_version=_engine_version(raw),
        controller=controller_of(meta),
    )


_SANDBOX = "PodReadyToStartContainers"
"""False until volumes are mounted and the sandbox runs (Kubernetes 1.29, KEP-3085); images are pulled afterwards."""
NAME_CHARACTERS = 253
MOST_MOUNTS = 8
_REFERENCES = (
    ("configMap", "name", "ConfigMap"),
    ("secret", "secretName", "Secret"),
    ("secret", "name", "Secret"),
    ("persistentVolumeClaim", "claimName", "PersistentVolumeClaim"),
)
_ALWAYS_THERE = frozenset({"emptyDir", "downwardAPI", "serviceAccountToken", "image"})


def _disruption(condition: Mapping[str, Any]) -> str:
    if condition.get("status") != "True":
        return ""
    return f"{str(condition.get('reason') or '')[:REASON_CHARACTERS]}: {_said(condition)}"


def _node_is_lost(ready: Mapping[str, Any], container: Mapping[str, Any]) -> bool:
    """Whether the node controller, not the kubelet, says that a pod is not Ready.

    It changes the status of the condition alone (MarkPodsNotReady, kube-controller-manager 1.30 to 1.36): a kubelet
    gives a reason, and says of each container whether it is ready.
    """
    silent = ready.get("status") == "False" and not ready.get("reason")
    return silent and container.get("ready") is True and "running" in (container.get("state") or {})


def _awaits(raw: Mapping[str, Any], sandbox: bool) -> Awaits:
    """What a pod waits for before its containers may start."""
    if "deletionTimestamp" in raw["metadata"] or (raw.get("status") or {}).get("phase") != "Pending":
        return ""
    if not (raw.get("spec") or {}).get("nodeName"):
        return "Node"
    return "" if sandbox else "Start"


def _to_be_mounted(raw: Mapping[str, Any]) -> tuple[Mounted, ...]:
    """What a pod that has a node mounts, and so what may be missing: the kubelet says which in an event only."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") != "Pending":
        return ()
    found = {text: str(volume.get("name"))[:63] for volume in spec.get("volumes") or [] for text in _needed(volume)}
    return tuple(Mounted(volume, text) for text, volume in found.items())[:MOST_MOUNTS]


def _image_volumes(raw: Mapping[str, Any]) -> tuple[str, ...]:
    volumes = (raw.get("spec") or {}).get("volumes") or []
    found = (str((volume.get("image") or {}).get("reference") or "")[:NAME_CHARACTERS] for volume in volumes)
    return tuple(reference for reference in found if reference)[:MOST_MOUNTS]


def _needed(volume: Mapping[str, Any]) -> Iterator[str]:
    sources = (volume.get("projected") or {}).get("sources") or [] if "projected" in volume else [volume]
    for source in sources:
        for field, key, kind in _REFERENCES:
            reference = source.get(field) or {}
            if key in reference and not reference.get("optional"):
                yield f"{kind} {str(reference[key])[:253]!r}"
    kinds = volume.keys() - {"name", "projected", *_ALWAYS_THERE, *(field for field, _, _ in _REFERENCES)}
    if kinds:
        yield f"volume {str(volume.get('name'))[:63]!r} ({', '.join(sorted(kinds))[:63]})"


def controller_of(meta: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, name and uid of what controls an object; empty if nothing does."""
    owner = next((one for one in meta.get("ownerReferences") or [] if one.get("controller")), None)
    if owner is None:
        return "", "", ""
    return str(owner["kind"])[:63], str(owner["name"])[:NAME_CHARACTERS], str(owner["uid"])[:UID_CHARACTERS]


def _restart(annotations: Mapping[str, Any]) -> str | None:
    found = annotations.get(ANNOTATION_RESTARTED)
    return found[:64] if isinstance(found, str) else None


def _engine_version(raw: Mapping[str, Any]) -> str | None:
    """Another image than the version's own prints what its own version prints."""
    containers = (raw.get("spec") or {}).get("containers") or []
    image = next((one.get("image") or "" for one in containers if one.get("name") == ENGINE_CONTAINER), "")
    rendered = read_object((raw["metadata"].get("annotations") or {}).get(ANNOTATION_ENGINE)).get("version")
    names = "|".join(re.escape(engine.image_name) for engine in ENGINES.values())
    by_tag = re.search(_IMAGE_VERSION % names, image)
    found = by_tag or (_VERSION.fullmatch(rendered) if isinstance(rendered, str) else None)
    return found[1] if found is not None else None


def _mounted_models(annotation: str | None) -> tuple[str, ...]:
    body = read_object(annotation)
    beside = body.get("beside")
    mounts = [body, *(beside if isinstance(beside, list) else [])]
    found = (one.get("directory") for one in mounts if isinstance(one, dict))
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and one))


def _telling_container(raw: Mapping[str, Any], names: Iterable[str]) -> JSON:
    """The status of the container that matters: an init container that does not get on, else the engine or the tool.

    By name: the kubelet sorts statuses by name, so an injected sidecar may stand first.
    """
    status = raw.get("status") or {}
    sidecars = {
        one["name"]
        for one in (raw.get("spec") or {}).get("initContainers") or []
        if one.get("restartPolicy") == "Always"
    }
    for one in status.get("initContainerStatuses") or []:
        if one.get("name") in sidecars:
            continue
        state = one.get("state") or {}
        waits = (state.get("waiting") or {}).get("reason", "PodInitializing") != "PodInitializing"
        ended = (state.get("terminated") or {}).get("exitCode", 0) != 0
        if waits or ended or ("running" in state and one.get("restartCount", 0) > 0):
            return dict(one)
    statuses = {one.get("name"): one for one in status.get("containerStatuses") or []}
    return next((dict(statuses[name]) for name in names if name in statuses), {})


def _said(entry: Mapping[str, Any]) -> str:
    """The message of a condition or a state, which anyone who may write a pod's status has written."""
    return (entry.get("message") or "")[:MESSAGE_CHARACTERS]


def _end(terminated: Mapping[str, Any]) -> ContainerEnd:
    return ContainerEnd(
        exit_code=terminated.get("exitCode", 0),
        signal=terminated.get("signal"),
        reason=(terminated.get("reason") or "")[:REASON_CHARACTERS],
        message=(terminated.get("message") or "")[-LAST_WORDS_CHARACTERS:],
        finished_at=terminated.get("finishedAt") or "",
    )
