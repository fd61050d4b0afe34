"""The CustomResourceDefinition: made from the pydantic models, written to and compared with `crds/`.

Run as `python -m llm_operator.api.crd --write DIRECTORY` or `--check DIRECTORY`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from llm_operator.api.names import CATEGORIES, GROUP, KIND, PLURAL, SHORT_NAMES, SINGULAR, VERSION
from llm_operator.api.resource import NAME_RULE
from llm_operator.api.schema import structural
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.status import LLMDeploymentStatus

FILE_NAME = f"{GROUP}_{PLURAL}.yaml"
_HEADER = "# Generated from operator/llm_operator/api by `make generate`. Do not edit.\n"


def _condition(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_COLUMNS: list[dict[str, Any]] = [
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": _condition("status"),
        "description": "Status of the condition Ready.",
    },
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": _condition("reason"),
        "description": "Reason of the condition Ready.",
    },
    {"name": "Engine", "type": "string", "jsonPath": ".spec.engine.type", "description": "LMDeploy or VLLM."},
    {
        "name": "Model",
        "type": "string",
        "jsonPath": ".spec.model['huggingFace','modelScope','persistentVolumeClaim','image']"
        "['repository','claimName','reference']",
        "description": "Repository on the hub, claim or image.",
    },
    {"name": "TP", "type": "integer", "jsonPath": ".status.plan.tensor", "description": "GPUs per replica."},
    {"name": "KV", "type": "string", "jsonPath": ".spec.kvCache.quantization", "description": "KV-cache format."},
    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "description": "Desired number of replicas."},
    {"name": "Serving", "type": "integer", "jsonPath": ".status.readyReplicas", "description": "Ready replicas."},
    {
        "name": "Progress",
        "type": "string",
        "jsonPath": ".status.progress.summary",
        "description": "The stage before serving.",
    },
    {
        "name": "Endpoint",
        "type": "string",
        "jsonPath": ".status.endpoint",
        "priority": 1,
        "description": "Base URL of the API in the cluster.",
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def custom_resource_definition() -> dict[str, Any]:
    """The CRD as a JSON object."""
    schema = {
        "type": "object",
        "description": "A large language model, served by one engine on GPUs of this cluster.",
        "required": ["spec"],
        "x-kubernetes-validations": [NAME_RULE.to_json()],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {**structural(LLMDeploymentSpec), "description": "The desired model, engine and resources."},
            "status": {
                **structural(LLMDeploymentStatus),
                "description": "The state of the object, written by the operator.",
            },
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": _COLUMNS,
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": SHORT_NAMES,
        "categories": CATEGORIES,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


class _Dumper(yaml.SafeDumper):
    """Writes a part out again where it occurs again: aliases are lost on readers, and on API servers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd_yaml() -> str:
    """The CRD's file: the same text for the same models."""
    return _HEADER + yaml.dump(custom_resource_definition(), Dumper=_Dumper, sort_keys=True, width=110)


def main(arguments: list[str] | None = None) -> int:
    """Writes the CRD, or says whether the file still is what the models give; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m llm_operator.api.crd", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", metavar="DIRECTORY", type=Path, help="write the CRD to this directory")
    action.add_argument(
        "--check", metavar="DIRECTORY", type=Path, nargs="?", const=Path("crds"), help="exit 1 if it is stale (crds)"
    )
    options = parser.parse_args(arguments)
    if options.write is not None:
        (options.write / FILE_NAME).write_text(crd_yaml(), encoding="utf-8")
        return 0
    return _check(options.check / FILE_NAME)


def _check(path: Path) -> int:
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"{path}: cannot be read ({error.strerror}); run `make generate` and commit the result\n")
        return 1
    if found != crd_yaml():
        sys.stderr.write(
            f"{path} is not what operator/llm_operator/api gives; run `make generate` and commit the result\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
