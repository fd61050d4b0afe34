"""Manifests of public users with the overlay that each of them missed: the API server takes what is made of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import API_VERSION, PLURAL
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import container_of
from llm_operator.manifests.kinds import KINDS
from llm_operator.manifests.overlay import check_overlays
from tests.support.rendered import children_of, jobs_of, manifests

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]
OVERLAYS: dict[str, JSON] = {
    # Nodes of one pool, by an expression instead of a selector, and a scheduler that packs GPUs.
    "01-phi4-mini-on-t4": {
        "podTemplate": {
            "metadata": {
                "labels": {"team": "speech", "kueue.x-k8s.io/queue-name": "t4"},
                "annotations": {"karpenter.sh/do-not-disrupt": "true"},
            },
            "spec": {
                "schedulerName": "bin-packing",
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "apps", "operator": "In", "values": ["phi-4-mini"]}]}
                            ]
                        }
                    }
                },
                "containers": [{"name": "engine", "imagePullPolicy": "Always"}],
            },
        }
    },
    # OpenShift chooses the user; the hub and a mirror by their names; the gateway's sidecar stands before the engine.
    "03-granite-modelcar-two-replicas": {
        "podTemplate": {
            "metadata": {"annotations": {"sidecar.istio.io/inject": "false", "prometheus.io/scrape": "true"}},
            "spec": {
                "securityContext": {"runAsUser": None, "runAsGroup": None},
                "hostAliases": [{"ip": "10.0.0.10", "hostnames": ["registry.example"]}],
                "dnsConfig": {"searches": ["models.svc"], "options": [{"name": "ndots", "value": "2"}]},
                "initContainers": [
                    {
                        "name": "gateway",
                        "image": "gateway:1",
                        "restartPolicy": "Always",
                        "ports": [{"containerPort": 9443, "name": "gateway"}],
                    }
                ],
            },
        },
        "service": {"trafficDistribution": "PreferSameNode", "labels": {"gateway": "models"}},
    },
    # One replica per node, for certain.
    "05-data-parallel-two-t4-nodes": {
        "podTemplate": {
            "spec": {
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"llm-operator.dev/deployment": "qwen2-5-0-5b"}},
                    }
                ],
                "containers": [
                    {
                        "name": "engine",
                        "livenessProbe": {"failureThreshold": 30},
                        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    }
                ],
            }
        }
    },
    # The quantization on a queue of its own, with more room for its temporary files.
    "07-quantize-32b-for-24gb": {
        "tools": {
            "podTemplate": {
                "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "batch"}},
                "spec": {
                    "priorityClassName": "batch",
                    "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "200Gi"}}],
                    "containers": [
                        {
                            "name": "tool",
                            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                            "envFrom": [{"configMapRef": {"name": "mirror", "optional": True}}],
                        }
                    ],
                },
            }
        }
    },
    # Tensor parallelism on one node after all, with RDMA and huge pages.
    "09-tensor-parallel-over-two-nodes": {
        "podTemplate": {
            "metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "rdma"}},
            "spec": {
                "containers": [
                    {
                        "name": "engine",
                        "resources": {"limits": {"rdma/ib": 1, "hugepages-2Mi": "1Gi", "nvidia.com/gpumem": 16000}},
                        "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
                        "volumeMounts": [{"name": "pages", "mountPath": "/hugepages"}],
                    }
                ],
                "volumes": [{"name": "pages", "emptyDir": {"medium": "HugePages"}}],
            },
        }
    },
    # The connector's settings as a file, and a directory of the node for what leaves the GPU.
    "11-kv-offload-to-host-memory": {
        "podTemplate": {
            "spec": {
                "volumes": [
                    {"name": "settings", "configMap": {"name": "lmcache"}},
                    {
                        "name": "offload",
                        "ephemeral": {
                            "volumeClaimTemplate": {
                                "spec": {
                                    "accessModes": ["ReadWriteOnce"],
                                    "resources": {"requests": {"storage": "200Gi"}},
                                }
                            }
                        },
                    },
                ],
                "containers": [
                    {
                        "name": "engine",
                        "volumeMounts": [
                            {"name": "settings", "mountPath": "/etc/lmcache", "readOnly": True},
                            {"name": "offload", "mountPath": "/cache/offload"},
                        ],
                        "env": [{"name": "LMCACHE_CONFIG_FILE", "value": "/etc/lmcache/settings.yaml"}],
                    },
                    {"name": "exporter", "image": "exporter:1", "ports": [{"containerPort": 9100, "name": "metrics"}]},
                ],
            }
        }
    },
}


def documents() -> dict[str, JSON]:
    """Each manifest with its overlay, by the name of its file."""
    found = {}
    for name, body in manifests().items():
        file = name.partition(".")[0]
        if file in OVERLAYS:
            found[file] = {**copy.deepcopy(body), "spec": {**body["spec"], **OVERLAYS[file]}}
    return found


def made_of(body: JSON) -> list[JSON]:
    resource = LLMDeployment.parse({**body, "metadata": {**body["metadata"], "namespace": "default", "uid": "uid"}})
    assert check_overlays(resource.spec) == ()
    return [*children_of(resource), *jobs_of(resource)]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_api_server_takes_the_object_and_what_is_made_of_it(control_plane: ControlPlane, name: str) -> None:
    body = documents()[name]
    path = f"/apis/{API_VERSION}/namespaces/default/{PLURAL}?dryRun=All&fieldValidation=Strict"
    control_plane.request("POST", path, body)
    children = made_of(body)
    pods = []
    for child in children:
        kind = KINDS[child["kind"]]
        control_plane.request("POST", f"{kind.path('default')}?dryRun=All&fieldValidation=Strict", child)
        template = child.get("spec", {}).get("template")
        if template is not None:
            pods.append(
                {"metadata": {**template["metadata"], "name": child["metadata"]["name"]}, "spec": template["spec"]}
            )
    assert pods
    for pod in pods:
        if "priorityClassName" not in pod["spec"]:
            control_plane.request("POST", "/api/v1/namespaces/default/pods?dryRun=All&fieldValidation=Strict", pod)


def test_what_they_missed_is_in_their_pods() -> None:
    pods = {name: made_of(body)[0]["spec"]["template"] for name, body in documents().items()}
    assert pods["01-phi4-mini-on-t4"]["spec"]["schedulerName"] == "bin-packing"
    granite = pods["03-granite-modelcar-two-replicas"]["spec"]
    assert "runAsUser" not in granite["securityContext"]
    assert granite["securityContext"]["runAsNonRoot"] is True
    assert granite["initContainers"][0]["name"] == "gateway"
    (spread,) = pods["05-data-parallel-two-t4-nodes"]["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    limits = container_of(pods["09-tensor-parallel-over-two-nodes"], "engine")["resources"]["limits"]
    assert limits.items() >= {"nvidia.com/gpu": "2", "rdma/ib": 1, "hugepages-2Mi": "1Gi"}.items()
    mounts = container_of(pods["11-kv-offload-to-host-memory"], "engine")["volumeMounts"]
    assert {"/etc/lmcache", "/cache/offload", "/cache", "/dev/shm"} <= {mount["mountPath"] for mount in mounts}
    (job,) = [one for one in made_of(documents()["07-quantize-32b-for-24gb"]) if "quantize" in one["metadata"]["name"]]
    assert job["spec"]["template"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "batch"
