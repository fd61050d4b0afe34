"""The cluster that a command talks to, as kubectl would choose it, through the official client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from llm_operator.api import GROUP, KIND, PLURAL, VERSION
from llm_operator.cli.errors import BadInputError
from llm_operator.foreign import read_json

JSON = dict[str, Any]

CHUNK = 500
TIMEOUT_SECONDS = (5, 30)
"""To connect, and between two bytes of an answer."""
MERGE_PATCH = "application/merge-patch+json"
DEFAULT_KUBECONFIG = "~/.kube/config"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Cluster:
    """Jobs and LLMDeployments of one API server."""

    def __init__(self, configuration: client.Configuration, namespace: str) -> None:
        # Without this, urllib3 tries a server that is away four times, and warns each time.
        configuration.retries = False
        # Lists and patches of any group as plain dictionaries, Jobs included.
        self._api = client.CustomObjectsApi(client.ApiClient(configuration))
        self._server = str(configuration.host)
        self.namespace = namespace
        """The one that the kubeconfig's context, or the pod, stands in."""

    def jobs(self, namespace: str | None, selector: str) -> list[JSON]:
        """Jobs by label; of all namespaces where none is given.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        return self._list("batch", "v1", "jobs", namespace, selector)

    def objects(self, namespace: str | None) -> list[JSON]:
        """The LLMDeployments.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        return self._list(GROUP, VERSION, PLURAL, namespace, "")

    def annotate_job(self, namespace: str, name: str, resource_version: str, annotations: dict[str, str]) -> bool:
        """Annotate a Job if nobody has changed it since it was read; whether that was so.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        body = {"metadata": {"resourceVersion": resource_version, "annotations": annotations}}
        with self._told(f"patch Job {namespace}/{name}"):
            try:
                self._api.patch_namespaced_custom_object(
                    "batch",
                    "v1",
                    namespace,
                    "jobs",
                    name,
                    body,
                    _content_type=MERGE_PATCH,
                    _request_timeout=TIMEOUT_SECONDS,
                )
            except client.ApiException as error:
                if error.status in (404, 409):
                    return False
                raise
        return True

    def _list(self, group: str, version: str, plural: str, namespace: str | None, selector: str) -> list[JSON]:
        items: list[JSON] = []
        more: dict[str, Any] = {}
        with self._told(f"list {plural}"):
            while True:
                options = {"limit": CHUNK, "label_selector": selector, "_request_timeout": TIMEOUT_SECONDS, **more}
                page: Any = (
                    self._api.list_cluster_custom_object(group, version, plural, **options)
                    if namespace is None
                    else self._api.list_namespaced_custom_object(group, version, namespace, plural, **options)
                )
                if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                    raise BadInputError([f"{self._server} is no Kubernetes API server: it answers with no list"])
                items += page["items"]
                token = page["metadata"].get("continue")
                if not token:
                    return items
                more = {"_continue": token}

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            raise BadInputError([f"cannot {what}: {_refusal(error)}"]) from error
        except urllib3.exceptions.HTTPError as error:
            raise BadInputError(
                [f"the API server {self._server} cannot be reached: {error}; check --kubeconfig and --context"]
            ) from error


def _refusal(error: client.ApiException) -> str:
    """What an API server's refusal means here."""
    said = _message(error.body) or str(error.reason)
    if error.status == 401:
        return f"the API server does not accept these credentials: {said}"
    if error.status == 403:
        return f"{said}; ask for the right, or name a namespace with -n"
    if error.status == 404:
        return f"{said}; is this a Kubernetes API server with the CRD of {KIND}?"
    return f"{error.status} {said}" if error.status else said


def _message(body: Any) -> str:
    """The message of an API server's Status."""
    try:
        status = read_json(body or "", limit=1 << 20)
    except ValueError:
        return ""
    return str(status.get("message", "")) if isinstance(status, dict) else ""


def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """The cluster of a kubeconfig; inside a pod without one, the pod's own.

    Args:
        kubeconfig: path; None: $KUBECONFIG, else ~/.kube/config.
        context: context in it; None: its current one.

    Raises:
        BadInputError: there is no such file or context, or it cannot be used.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if not named and not context and not Path(DEFAULT_KUBECONFIG).expanduser().exists():
        return _own()
    chosen = named or DEFAULT_KUBECONFIG
    configuration = client.Configuration()
    try:
        config.load_kube_config(chosen, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        loader = KubeConfigLoader(KubeConfigMerger(chosen).config, active_context=context)  # type: ignore[no-untyped-call]
        namespace = loader.current_context["context"].get("namespace")
    except config.ConfigException as error:
        raise BadInputError([f"the kubeconfig {chosen} does not lead to a cluster: {error}"]) from error
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInputError([f"the kubeconfig {chosen} cannot be used: {type(error).__name__}: {reason}"]) from error
    return Cluster(configuration, namespace or "default")


def _own() -> Cluster:
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        namespace = _POD_NAMESPACE.read_text().strip()
    except (config.ConfigException, OSError) as error:
        text = f"no cluster to talk to: there is no {DEFAULT_KUBECONFIG}, and this is no pod ({error})"
        raise BadInputError([f"{text}; give --kubeconfig, or set KUBECONFIG"]) from error
    return Cluster(configuration, namespace)
