"""What both engines' pods share: paths, caches, time budgets, references to Secrets, escaping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from llm_operator.api.base import SecretKeyReference
from llm_operator.api.model import Backend, ModelSpec
from llm_operator.api.quantity import bytes_of
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines.types import EngineRun, RenderRequest
from llm_operator.problems import Problem, wrong_field

MODEL_MOUNT = "/models"
CACHE_PATH = "/cache"
PORT_NAME = "http"
HEALTH_PATH = "/health"
METRICS_PATH = "/metrics"
CHAT_TEMPLATE_FOLDER = "/chat-template"
"""Where the ConfigMap of spec.model.chatTemplate is mounted."""
API_KEY_VARIABLE = "LLM_API_KEY"

STARTUP_PERIOD_SECONDS = 2
"""At 10 s a start lasted 3.7 s longer on average, of either engine (measured on a node)."""
PRE_STOP_SLEEP_SECONDS = 5
"""Time for endpoints to forget the pod before the engine refuses connections."""
_GIB = 1 << 30

CACHE_VARIABLES: Mapping[str, str] = {
    "HOME": CACHE_PATH,
    "XDG_CACHE_HOME": f"{CACHE_PATH}/xdg",
    "HF_HOME": f"{CACHE_PATH}/huggingface",
    "MODELSCOPE_CACHE": f"{CACHE_PATH}/modelscope",
    "TRITON_CACHE_DIR": f"{CACHE_PATH}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_PATH}/torchinductor",
}
"""Everything an engine writes goes into the one writable volume, so that the image's own user does not matter."""

USER_NAME = "llm"
"""torch calls getpass to name its cache: a user id of a pod has no entry in /etc/passwd."""

# What the device plugin hands to the container; another value would take GPUs that the scheduler gave to somebody else.
DEVICE_VARIABLES: Mapping[str, str] = dict.fromkeys(
    ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    "the device plugin says which GPUs the pod has; choose them with spec.gpu and spec.nodeSelector",
)


CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where OpenSSL, Python's ssl and httpx; requests; and curl look for roots (modeltools/trust.py)."""


def run(  # noqa: PLR0913 - the fields of one record
    request: RenderRequest,
    *,
    type: str,
    version: str,
    backend: Backend | None,
    default_image: str,
    command: tuple[str, ...],
    args: tuple[str, ...],
    variables: Iterable[Mapping[str, Any]],
    port: int,
    metrics_need_key: bool,
    exit_margin_seconds: int,
    served_name: str,
) -> EngineRun:
    """An engine's part of a pod, with what is the same for every engine.

    Args:
        request: what is to be rendered.
        type, version, backend, command, port, metrics_need_key, served_name: as in EngineRun.
        default_image: the image, unless the spec names another.
        args: the engine's own; those of the spec follow.
        variables: the engine's own; those of every engine and of the spec are added.
        exit_margin_seconds: what the engine may take to end after it has drained.
    """
    spec = request.spec
    return EngineRun(
        type=type,
        version=version,
        backend=backend,
        image=spec.engine.image or default_image,
        command=command,
        args=(*args, *map(literal, spec.engine.extra_args)),
        env=environment(spec, variables),
        port=port,
        port_name=PORT_NAME,
        health_path=HEALTH_PATH,
        metrics_need_key=metrics_need_key,
        startup_period_seconds=STARTUP_PERIOD_SECONDS,
        startup_failure_threshold=startup_failure_threshold(spec),
        pre_stop_sleep_seconds=PRE_STOP_SLEEP_SECONDS,
        termination_grace_period_seconds=PRE_STOP_SLEEP_SECONDS + spec.drain_timeout_seconds + exit_margin_seconds,
        shared_memory_bytes=shared_memory_bytes(spec, request.tensor),
        gpus=request.tensor,
        served_name=served_name,
        cache_path=CACHE_PATH,
    )


def literal(text: str) -> str:
    """Text that the kubelet hands on as it is: it expands `$(NAME)` in args and env, and `$$` is a dollar sign."""
    return text.replace("$", "$$")


def model_path(request: RenderRequest) -> str:
    """What the engine loads: a directory of the pod, or a repository that it fetches itself."""
    if request.model_path is not None:
        return request.model_path
    model = request.spec.model
    volume = model.persistent_volume_claim or model.image
    if volume is not None:
        inside = "/".join(part for part in volume.path.split("/") if part not in ("", "."))
        return f"{MODEL_MOUNT}/{inside}" if inside else MODEL_MOUNT
    hub = model.hugging_face or model.model_scope
    if hub is None:
        raise ValueError("spec.model names no source; the resource's own rules should have refused it")
    return hub.repository


def fetches_itself(request: RenderRequest) -> bool:
    """Whether the engine gets the model from a hub, instead of finding it in its pod."""
    model = request.spec.model
    return request.model_path is None and (model.hugging_face is not None or model.model_scope is not None)


def revision(request: RenderRequest) -> str | None:
    """Branch, tag or commit on the hub; None for the hub's default, and for files that are there."""
    hub = request.spec.model.hugging_face or request.spec.model.model_scope
    return hub.revision if hub is not None and fetches_itself(request) else None


def given(spec: LLMDeploymentSpec, name: str) -> bool:
    """Whether the user's extra arguments have this option."""
    return any(word.partition("=")[0] == name for word in spec.engine.extra_args)


def value_given(spec: LLMDeploymentSpec, name: str) -> str | None:
    """The value that the user's extra arguments give an option, as `--option=value` or as two words."""
    words = spec.engine.extra_args
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == name:
            return value if equals else next(iter(words[place + 1 : place + 2]), None)
    return None


def chat_template_path(spec: LLMDeploymentSpec, file: str) -> str | None:
    """What the engine's --chat-template gets; None without spec.model.chatTemplate."""
    return f"{CHAT_TEMPLATE_FOLDER}/{file}" if spec.model.chat_template is not None else None


def check_chat_template(spec: LLMDeploymentSpec, engine: str, wanted: str, foreign: tuple[str, ...]) -> list[Problem]:
    """A chat template that is given twice, or in the other engine's format.

    Args:
        spec: the spec.
        engine: the engine's name and version.
        wanted: the format that it reads.
        foreign: endings of keys that say another format.
    """
    template, field = spec.model.chat_template, "spec.model.chatTemplate"
    if template is None:
        return []
    if given(spec, "--chat-template"):
        text = "--chat-template is what spec.model.chatTemplate says: give one of them"
        return [wrong_field("ConflictingArgument", "spec.engine.extraArgs", text)]
    if template.key.lower().endswith(foreign):
        text = f"{engine} reads a chat template as {wanted}, and the key {template.key!r} names another format"
        return [wrong_field("UnsupportedChatTemplate", f"{field}.key", f"{text}: give a key that holds {wanted}")]
    return []


def secret_variable(name: str, reference: SecretKeyReference) -> dict[str, Any]:
    """An environment variable whose value the kubelet reads from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}}


def model_variables(request: RenderRequest, modelscope_switch: str) -> list[dict[str, Any]]:
    """Variables that follow from where the model comes from."""
    if not fetches_itself(request):
        # The files are all there; without this every start asks the hub for them first.
        return [{"name": "HF_HUB_OFFLINE", "value": "1"}]
    model = request.spec.model
    variables: list[dict[str, Any]] = []
    if model.model_scope is not None:
        variables.append({"name": modelscope_switch, "value": "True"})
    return [*variables, *token_variables(model)]


def token_name(model: ModelSpec) -> str:
    """The variable in which the hub's client looks for a token."""
    # MODELSCOPE_API_TOKEN: modelscope 1.x, modelscope/hub.
    return "HF_TOKEN" if model.hugging_face is not None else "MODELSCOPE_API_TOKEN"


def token_variables(model: ModelSpec) -> list[dict[str, Any]]:
    """The hub's token, by reference; empty if the spec names none."""
    return [] if model.credentials is None else [secret_variable(token_name(model), model.credentials)]


def environment(spec: LLMDeploymentSpec, own: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The operator's variables, then the user's; a user's one replaces the operator's of that name."""
    variables: dict[str, dict[str, Any]] = {
        name: {"name": name, "value": value} for name, value in {**CACHE_VARIABLES, "USER": USER_NAME}.items()
    }
    variables.update({variable["name"]: dict(variable) for variable in own})
    for given in spec.engine.env:
        variable = given.to_json()
        if "value" in variable:
            variable["value"] = literal(variable["value"])
        variables[given.name] = variable
    return tuple(variables.values())


def check_environment(spec: LLMDeploymentSpec, owned: Mapping[str, str]) -> tuple[Problem, ...]:
    """Variables of the user that a field owns or that would break the pod."""
    taken = {**DEVICE_VARIABLES, **owned}
    if spec.ca_bundle is not None:
        taken |= dict.fromkeys(CA_VARIABLES, "spec.caBundle says it")
    if spec.model.credentials is not None:
        taken[token_name(spec.model)] = "spec.model.credentials says it"
    return tuple(
        wrong_field("ConflictingVariable", "spec.engine.env", f"{variable.name}: {taken[variable.name]}; remove it")
        for variable in spec.engine.env
        if variable.name in taken
    )


def startup_failure_threshold(spec: LLMDeploymentSpec) -> int:
    """Failed startup probes until the time to load is over."""
    return math.ceil(spec.startup_timeout_seconds / STARTUP_PERIOD_SECONDS)


def shared_memory_bytes(spec: LLMDeploymentSpec, tensor: int) -> int:
    """Size of /dev/shm: NCCL and the workers' queues live there, and the container's default of 64 MiB kills them."""
    if spec.shared_memory is not None:
        return bytes_of(spec.shared_memory)
    return (8 if tensor > 1 else 2) * _GIB
