"""A real Prometheus scrapes the operator and both engines; every query of every dashboard returns data."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from devcluster.debian import unpacked
from devcluster.session import CHART, OPERATOR_NAMESPACE, RELEASE, Session
from llm_operator.engines.metric_names import metric_names, quantities
from llm_operator.monitoring.__main__ import files
from llm_operator.monitoring.dashboards import DASHBOARDS
from llm_operator.monitoring.grafana import queries
from tests.e2e.space import Space, leave
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

JSON = dict[str, Any]
NAMESPACE = "monitoring"
ENGINES = {"tiny-lmdeploy": "LMDeploy", "tiny-vllm": "VLLM"}
SCRAPE_SECONDS = 2


@pytest.fixture(scope="module")
def space(installed: Session) -> Iterator[Space]:
    installed.kubectl("create", "namespace", NAMESPACE)
    installed.provide_tiny_model(NAMESPACE)
    space = Space(installed, NAMESPACE)
    for name in ENGINES:
        document = installed.example(name)[0]
        # The plan of a made-up card: without one there is nothing to compare the engine with.
        document["spec"]["gpu"] = {"memory": "8Gi"}
        space.apply(document)
    for name in ENGINES:
        space.ready(name, 360)
    yield space
    leave(installed, NAMESPACE)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def scrape_configs(session: Session) -> list[JSON]:
    """What the Prometheus operator makes of the chart's PodMonitors: discovery of pods, their port, relabelings."""
    shown = session.run(
        "helm", "template", RELEASE, str(CHART), "--namespace", OPERATOR_NAMESPACE,
        "--set", "metrics.podMonitor.enabled=true,metrics.engines.podMonitor.enabled=true,imageRegistry=localhost",
    )  # fmt: skip
    monitors = [body for body in yaml.safe_load_all(shown) if body and body["kind"] == "PodMonitor"]
    return [_scrape_config(monitor, session) for monitor in monitors]


def _scrape_config(monitor: JSON, session: Session) -> JSON:
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    keep = [
        {"action": "keep", "source_labels": [_label(label)], "regex": value}
        for label, value in monitor["spec"]["selector"]["matchLabels"].items()
    ]
    keep.append(
        {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"]}
    )
    named = [
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    own = [
        {"source_labels": rule["sourceLabels"], "target_label": rule["targetLabel"]}
        for rule in endpoint.get("relabelings", ())
    ]
    return {
        "job_name": monitor["metadata"]["name"],
        "scrape_interval": f"{SCRAPE_SECONDS}s",
        "scrape_timeout": f"{SCRAPE_SECONDS}s",
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "static_configs": _targets(monitor, session),
        "relabel_configs": [*keep, *named, *own],
        "metric_relabel_configs": [
            {
                "source_labels": rule["sourceLabels"],
                "regex": rule["regex"],
                "replacement": rule["replacement"],
                "target_label": rule["targetLabel"],
            }
            for rule in endpoint.get("metricRelabelings", ())
        ],
    }


def _targets(monitor: JSON, session: Session) -> list[JSON]:
    """Every container port of the namespaces' pods, labelled as Prometheus' own discovery labels them.

    Debian builds Prometheus without that discovery.
    """
    everywhere = (monitor["spec"].get("namespaceSelector") or {}).get("any")
    path = "/api/v1/pods" if everywhere else f"/api/v1/namespaces/{monitor['metadata']['namespace']}/pods"
    return [
        {
            "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
            "labels": {
                "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
                "__meta_kubernetes_pod_name": pod["metadata"]["name"],
                "__meta_kubernetes_pod_node_name": pod["spec"]["nodeName"],
                "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
                **{_label(name): value for name, value in (pod["metadata"].get("labels") or {}).items()},
            },
        }
        for pod in session.request("GET", path)["items"]
        if pod["status"].get("podIP")
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
    ]


def _label(name: str) -> str:
    return "__meta_kubernetes_pod_label_" + "".join(char if char.isalnum() else "_" for char in name)


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def query(self, expression: str) -> list[JSON]:
        """The present value of an expression."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: JSON = json.load(answer)
        assert found["status"] == "success", found
        result: list[JSON] = found["data"]["result"]
        return result


@pytest.fixture(scope="module")
def prometheus(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "rules.yaml").write_text(files()["rules.yaml"])
    settings = {
        "global": {"evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": scrape_configs(space.session),
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    program = unpacked("prometheus", "usr/bin/prometheus") / "usr" / "bin" / "prometheus"
    command = [str(program), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            found = Prometheus(port)
            eventually(lambda: _answers(found), 60, lambda: (folder / "log").read_text()[-2000:])
            yield found
        finally:
            server.terminate()
            server.wait(30)


def _answers(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query("vector(1)"))
    except OSError:
        return False


@pytest.fixture(scope="module")
def busy(space: Space, prometheus: Prometheus) -> Prometheus:
    """Prometheus after both engines have answered, and after it has seen them do so."""

    def up() -> set[str]:
        return {sample["metric"].get("name", "") for sample in prometheus.query("up == 1")}

    eventually(lambda: up() >= {*ENGINES, ""}, 120, lambda: f"every target up, but {prometheus.query('up')}")
    for _ in range(3):
        for name in ENGINES:
            space.chat(name)
        time.sleep(SCRAPE_SECONDS)
    return prometheus


def test_every_panel_shows_data(busy: Prometheus) -> None:
    def empty() -> dict[str, list[str]]:
        return {
            board.title: missing
            for board in DASHBOARDS
            if (missing := [expression for expression in queries(board) if not busy.query(expression)])
        }

    eventually(lambda: not empty(), 60, lambda: f"data for every query, but none for {empty()}")


@pytest.mark.parametrize("name", ENGINES)
def test_the_names_of_each_engine_are_those_that_its_server_answers(busy: Prometheus, name: str) -> None:
    for quantity in quantities():
        for metric in metric_names(ENGINES[name], quantity):
            text = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
            assert busy.query(f'{text}{{namespace="{NAMESPACE}", name="{name}"}}'), f"{name} has no {text}"


@pytest.mark.parametrize("name", ENGINES)
def test_both_engines_are_measured_under_one_set_of_names(busy: Prometheus, name: str) -> None:
    chosen = f'{{namespace="{NAMESPACE}", name="{name}"}}'

    def value(metric: str) -> float:
        found = busy.query(f"{metric}{chosen}")
        return float(found[0]["value"][1]) if found else -1.0

    eventually(lambda: value("llm:generation_tokens:rate5m") > 0, 60, "tokens per second")
    assert value("llm:time_to_first_token_seconds:p95") > 0
    assert value("llm:requests_waiting") >= 0
    assert 0 <= value("llm:kv_cache_usage_ratio") <= 1
    assert value("llmdeployment_replicas_ready") == 1
