"""The pod that holds one replica of an engine."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import EngineRun, engine_of, guard
from llm_operator.engines.common import CHAT_TEMPLATE_FOLDER
from llm_operator.manifests.common import ANNOTATION_GUARD, JSON, selector_labels
from llm_operator.manifests.model_volume import FETCHER, SCRATCH, Prepared, fetcher, mounts, same_node, volumes
from llm_operator.manifests.tools import SECCOMP, user_ids
from llm_operator.manifests.trust import bundles_of, with_trust
from llm_operator.settings import ToolSettings

CONTAINER = "engine"
GUARD = "guard"
CHAT_TEMPLATE = "chat-template"
READINESS_PERIOD_SECONDS = 5
LIVENESS_PERIOD_SECONDS = 10


def pod_spec(resource: LLMDeployment, run: EngineRun, prepared: Prepared, tools: ToolSettings) -> JSON:
    """The pod's spec for one decided engine run over a prepared model."""
    spec = resource.spec
    fetch = fetcher(resource, prepared, tools)
    optional = {
        "initContainers": [fetch] if fetch else [],
        "affinity": next((same_node(claim) for claim, single_node in prepared.claims if single_node), None),
        "nodeSelector": node_selector(spec),
        "priorityClassName": spec.priority_class_name,
        "runtimeClassName": spec.runtime_class_name,
        "serviceAccountName": spec.service_account_name,
        "imagePullSecrets": [secret.to_json() for secret in spec.image_pull_secrets],
    }
    pod = {
        "containers": [_container(resource, run, prepared, tools)],
        "volumes": _volumes(resource, run, prepared, tools),
        # A Service named `vllm` would inject VLLM_PORT=tcp://..., which vLLM refuses (0.33.0, vllm/envs.py).
        "enableServiceLinks": False,
        "automountServiceAccountToken": spec.automount_service_account_token,
        "terminationGracePeriodSeconds": run.termination_grace_period_seconds,
        # No fsGroup: an engine reads its claims, and changes no files.
        "securityContext": {"runAsNonRoot": True, **user_ids(tools), **SECCOMP},
        "tolerations": tolerations(spec),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector_labels(resource)},
            }
        ],
        **{key: value for key, value in optional.items() if value},
    }
    return _with_trust(pod, spec, run, tools)


def _with_trust(pod: JSON, spec: LLMDeploymentSpec, run: EngineRun, tools: ToolSettings) -> JSON:
    """The object's certificates are for all of the pod; the operator's for what fetches models only."""
    if spec.ca_bundle is not None:
        return with_trust(pod, bundles_of(spec, tools), (CONTAINER, FETCHER), run.image)
    return with_trust(pod, bundles_of(spec, tools), (FETCHER,), tools.image, tools.pull_policy)


def asks_for_root(overlay: JSON | None) -> bool:
    """Whether a `podTemplate` says by its user id alone that the engine runs as root, and so need not say it twice."""
    spec = (overlay or {}).get("spec") or {}
    contexts = [part.get("securityContext") or {} for part in (spec, *_own_containers(overlay))]
    return any(context.get("runAsUser") == 0 for context in contexts)


def _own_containers(overlay: JSON | None) -> list[JSON]:
    """What an overlay says of the engine's container; more than one entry if it says it in parts."""
    spec = (overlay or {}).get("spec") or {}
    return [one for one in spec.get("containers") or [] if one.get("name") == CONTAINER]


def _container(resource: LLMDeployment, run: EngineRun, prepared: Prepared, tools: ToolSettings) -> JSON:
    spec = resource.spec
    container: JSON = {
        "name": CONTAINER,
        "image": run.image,
        "args": list(run.args),
        "env": [*(dict(variable) for variable in run.env), *_modes_off(spec)],
        "ports": [{"name": run.port_name, "containerPort": run.port, "protocol": "TCP"}],
        "resources": _resources(spec, run.gpus),
        "startupProbe": {
            **_probe(run, run.startup_period_seconds, run.startup_failure_threshold),
            "timeoutSeconds": 5,
        },
        "readinessProbe": {**_probe(run, READINESS_PERIOD_SECONDS, 3), "timeoutSeconds": 5},
        "livenessProbe": {**_probe(run, LIVENESS_PERIOD_SECONDS, 6), "timeoutSeconds": 10},
        "lifecycle": {"preStop": {"sleep": {"seconds": run.pre_stop_sleep_seconds}}},
        # The log's last lines become the termination message: that is where an engine says why it died.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": _mounts(resource, run, prepared, tools),
    }
    if run.command:
        container["command"] = list(run.command)
    return container


def _modes_off(spec: LLMDeploymentSpec) -> list[JSON]:
    """With `envFrom`, variables that no one can see here come to the engine: what is refused by name is said, too.

    A container's own variables win over those of `envFrom`.
    """
    if not any(container.get("envFrom") for container in _own_containers(spec.pod_template)):
        return []
    return [{"name": name, "value": value} for name, value in engine_of(spec.engine.type).modes_off.items()]


def _probe(run: EngineRun, period_seconds: int, failure_threshold: int) -> JSON:
    return {
        "httpGet": {"path": run.health_path, "port": run.port_name},
        "periodSeconds": period_seconds,
        "failureThreshold": failure_threshold,
    }


def _resources(spec: LLMDeploymentSpec, gpus: int) -> JSON:
    count = {spec.gpu.resource_name: str(gpus)}
    return {
        "requests": {**(spec.resources.requests or {}), **count},
        "limits": {**(spec.resources.limits or {}), **count},
    }


def _volumes(resource: LLMDeployment, run: EngineRun, prepared: Prepared, tools: ToolSettings) -> list[JSON]:
    found: list[JSON] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(run.shared_memory_bytes)}},
        {"name": "cache", "emptyDir": {}},
        _guard_volume(),
        *volumes(resource, prepared, tools),
    ]
    template = resource.spec.model.chat_template
    if template is not None:
        item = {"key": template.key, "path": _template_file(resource.spec)}
        # Optional, so that the pod starts and the engine says what is missing, where a condition can tell of it.
        source = {"name": template.name, "items": [item], "optional": True}
        found.append({"name": CHAT_TEMPLATE, "configMap": source})
    return [*found, {"name": SCRATCH, "emptyDir": {}}]


def _guard_volume() -> JSON:
    """The filter before the engine's router as a file; its source is an annotation of the pod."""
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{ANNOTATION_GUARD}']"}
    return {"name": GUARD, "downwardAPI": {"items": [{"path": guard.FILE, "fieldRef": field}]}}


def _mounts(resource: LLMDeployment, run: EngineRun, prepared: Prepared, tools: ToolSettings) -> list[JSON]:
    found: list[JSON] = [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - the path that NCCL and vLLM open
        {"name": "cache", "mountPath": run.cache_path},
        {"name": SCRATCH, "mountPath": "/tmp"},  # noqa: S108 - sockets between an engine's processes, compilers
        {"name": GUARD, "mountPath": guard.FOLDER, "readOnly": True},
        *mounts(resource, prepared, tools),
    ]
    if resource.spec.model.chat_template is not None:
        found.append({"name": CHAT_TEMPLATE, "mountPath": CHAT_TEMPLATE_FOLDER, "readOnly": True})
    return found


def _template_file(spec: LLMDeploymentSpec) -> str:
    return engine_of(spec.engine.type).chat_template_file


def node_selector(spec: LLMDeploymentSpec) -> dict[str, str]:
    """Labels of the nodes that the pods may run on."""
    selector = dict(spec.node_selector)
    if spec.gpu.product is not None:
        selector["nvidia.com/gpu.product"] = spec.gpu.product
    return selector


def tolerations(spec: LLMDeploymentSpec) -> list[JSON]:
    """Taints that the pods tolerate; the one of GPU nodes always."""
    gpu_taint = {"key": spec.gpu.resource_name, "operator": "Exists", "effect": "NoSchedule"}
    return [gpu_taint, *(toleration.to_json() for toleration in spec.tolerations)]
