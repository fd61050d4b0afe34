"""A client for thousands of requests in a row: one connection kept alive, nothing between the test and the wire."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from llm_operator.api import API_VERSION, PLURAL

_COLLECTION = f"/apis/{API_VERSION}/namespaces/default/{PLURAL}"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class CrdClient:
    """Requests to one API server, as the kubeconfig's first user."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if "client-certificate" in user:
            context.load_cert_chain(user["client-certificate"], user["client-key"])
        self._headers = {"Content-Type": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        address = urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=context, timeout=30
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status code and JSON answer."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {**self._headers, **headers})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def install(self, definition: dict[str, Any]) -> None:
        """Creates the CRD and waits until objects of it are served."""
        code, body = self.request("POST", _DEFINITIONS, definition)
        assert code in (201, 409), body
        name = definition["metadata"]["name"]
        for _ in range(300):
            _, body = self.request("GET", f"{_DEFINITIONS}/{name}")
            states = {condition["type"]: condition for condition in body.get("status", {}).get("conditions", [])}
            assert "NonStructuralSchema" not in states, states
            if states.get("Established", {}).get("status") == "True" and self.request("GET", _COLLECTION)[0] == 200:
                return
            time.sleep(0.05)
        raise TimeoutError(f"{name} was not established in 15 s: {body}")

    def create(self, document: dict[str, Any], *, dry_run: bool) -> tuple[int, dict[str, Any]]:
        """Creates an object in the namespace default; unknown fields are pruned."""
        return self.request("POST", f"{_COLLECTION}?fieldValidation=Ignore{_dry(dry_run)}", document)

    def replace_status(self, document: dict[str, Any], *, dry_run: bool) -> tuple[int, dict[str, Any]]:
        """Writes the status of an object as it was read."""
        name = document["metadata"]["name"]
        return self.request("PUT", f"{_COLLECTION}/{name}/status?fieldValidation=Ignore{_dry(dry_run)}", document)


def _dry(dry_run: bool) -> str:
    return "&dryRun=All" if dry_run else ""
