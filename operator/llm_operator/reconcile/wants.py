"""What is to be known of one LLMDeployment until its next look; the sources at the edge follow it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from llm_operator.api import EngineType
from llm_operator.live.pods import Pod
from llm_operator.memory.types import PlanRequest
from llm_operator.reconcile.model_facts import Model

Death = tuple[str, int, str]
"""Of a container: uid of its pod, restarts, and when it ended."""
Identity = tuple[str, str | None]
"""Of a container that runs: uid of its pod, and when it started. A restarted one is another."""


class LogSource(NamedTuple):
    """A container whose log says how far a stage is."""

    namespace: str
    pod: str
    container: str


class Subject(NamedTuple):
    """An object in the LLMDeployment's namespace that waits, and of which Events say why."""

    kind: str
    name: str
    uid: str


def identity(pod: Pod) -> Identity:
    """The container that runs in a pod."""
    return pod.uid, pod.started_at


@dataclass(frozen=True, slots=True)
class Loading:
    """An engine that loads.

    Attributes:
        pod: its pod.
        total_bytes: size of the files that it reads; None: not known.
    """

    pod: Pod
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Serving:
    """Engines whose metrics are looked at.

    Attributes:
        engine: LMDeploy or VLLM.
        pods: those that serve.
    """

    engine: EngineType
    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """What an engine was started with, as far as its start teaches something.

    Attributes:
        request: what the planner was asked.
        version: of the engine.
        args: its command line.
        tensor: tensor parallelism of its plan.
        context_length: of its plan.
    """

    request: PlanRequest
    version: str
    args: tuple[str, ...]
    tensor: int
    context_length: int | None


@dataclass(frozen=True, slots=True)
class Measuring:
    """An engine that is asked what its KV cache holds.

    Attributes:
        pod: its pod.
        engine: LMDeploy or VLLM.
        backend: as it was rendered; None: it has only one.
        bytes_per_token: KV cache of one token on one GPU, by the plan; None: there is none.
        rendered: what it was started with; None: its start teaches nothing.
    """

    pod: Pod
    engine: EngineType
    backend: str | None
    bytes_per_token: int | None
    rendered: Rendered | None = None


@dataclass(frozen=True, slots=True)
class Wants:
    """What the sources follow for one object, and nothing else for it.

    Attributes:
        inputs: hash of the inputs that were planned.
        resource_name: extended resource of its GPUs.
        model: on a hub; None: it has none there.
        log: says how far the stage is that runs.
        deaths: containers that died without saying why in their termination messages, and their pods.
        events: what waits, and does not say for what.
        loading: the engine that loads.
        serving: the engines that serve.
        measuring: the engine that is measured.
    """

    inputs: str
    resource_name: str
    model: Model | None = None
    log: LogSource | None = None
    deaths: tuple[tuple[Death, Pod], ...] = ()
    events: tuple[Subject, ...] = ()
    loading: Loading | None = None
    serving: Serving | None = None
    measuring: Measuring | None = None
