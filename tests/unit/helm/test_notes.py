"""What the chart says after an installation, and what `helm test` runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from llm_operator.api import LLMDeployment
from tests.support.chart import CHART, REGISTRY, Helm, only

PLACES: tuple[tuple[str, list[str]], ...] = (
    ("ops", []),
    ("default", []),
    ("default", ["default"]),
    ("ops", ["a"]),
    ("ops", ["ops"]),
    ("ops", ["ops", "a"]),
)
"""The release's namespace, and those that it serves; empty: all."""


def notes(helm: Helm, namespace: str, values: dict[str, Any]) -> str:
    values = {"imageRegistry": REGISTRY, **values}
    done = helm.run(
        *("install", "llm", str(CHART), "--dry-run=client", "--namespace", namespace, "--values", "-"),
        stdin=yaml.safe_dump(values),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


@pytest.mark.parametrize(("namespace", "served"), PLACES, ids=str)
def test_the_object_of_the_notes_is_in_a_namespace_that_is_served(
    helm: Helm, namespace: str, served: list[str]
) -> None:
    """The operator refuses objects beside itself, unless it serves that namespace alone."""
    text = notes(helm, namespace, {"watchNamespaces": served})
    (manifest,) = [part.partition("     END")[0] for part in text.split("<<END\n")[1:]]
    found = LLMDeployment.parse(yaml.safe_load(manifest)).metadata.namespace
    assert found in (served or [found])
    assert found != namespace or served == [namespace]
    assert (f"kubectl create namespace {found}" in text) == (found not in ("default", *served))
    assert f"kubectl -n {found} wait --for=condition=Ready llmdep/qwen" in text


@pytest.mark.parametrize(
    ("install", "keep", "service", "rights"),
    [(True, True, True, True), (True, False, True, False), (False, True, False, True), (False, False, False, False)],
)
def test_the_notes_say_what_these_values_leave_to_do(
    helm: Helm, *, install: bool, keep: bool, service: bool, rights: bool
) -> None:
    values = {
        "crds": {"install": install, "keep": keep},
        "metrics": {"service": {"enabled": service}},
        "rbac": {"create": rights},
        "serviceAccount": {"name": "robot"},
    }
    text = notes(helm, "ops", values)
    assert ("must find it" in text) == (not install)
    assert ("leaves the CRD" in text) == (install and keep)
    assert ("deletes every LLMDeployment" in text) == (install and not keep)
    assert ("helm -n ops test llm" in text) == service
    assert ("bind the ServiceAccount robot" in text) == (not rights)
    assert "\n\n\n" not in text


@contextmanager
def operator(status: int, answer: str) -> Iterator[int]:
    """The metrics port of an operator; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


LEADS = 'leader_election_master_status{name="llm"} '


@pytest.mark.parametrize(
    ("status", "answer", "protected", "passes"),
    [
        (200, f"{LEADS}1\n", False, True),
        (200, f"{LEADS}1.0\n", True, True),
        (401, "", True, True),
        (200, f"{LEADS}0\n", False, False),
        (401, "", False, False),
        (500, "", True, False),
    ],
)
def test_helm_test_passes_if_an_operator_leads(
    helm: Helm, status: int, answer: str, *, protected: bool, passes: bool
) -> None:
    with operator(status, answer) as port:
        metrics = {"service": {"port": port}, "authentication": {"enabled": protected}}
        pod = only(helm.template({"metrics": metrics}), "Pod")
        (container,) = pod["spec"]["containers"]
        (script,) = container["args"]
        # One try instead of a minute of them.
        script = script.replace("range(30)", "range(1)").replace("time.sleep(2)", "pass")
        address = {"LLM_LLM_OPERATOR_METRICS_SERVICE_HOST": "127.0.0.1", "no_proxy": "*"}
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **address}, capture_output=True, text=True, check=False
        )
    assert (done.returncode == 0) == passes, done.stderr
    assert "Traceback" not in done.stderr


def test_a_policy_of_who_may_scrape_lets_helm_test_through(helm: Helm) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    objects = helm.template({"networkPolicy": {"enabled": True, "metricsFrom": [peer]}})
    (rule,) = next(entry for entry in objects if entry["kind"] == "NetworkPolicy")["spec"]["ingress"]
    labels = only(objects, "Pod")["metadata"]["labels"]
    assert rule["from"][0] == peer
    assert rule["from"][1]["podSelector"]["matchLabels"].items() <= labels.items()
