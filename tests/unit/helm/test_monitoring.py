"""Monitors, rules and dashboards of the chart: off by default, and right when they are on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from llm_operator.monitoring.__main__ import files
from llm_operator.monitoring.dashboards import DASHBOARDS
from llm_operator.monitoring.grafana import render
from tests.support.chart import CHART, NAMESPACE, Helm, of_kind, only

JSON = dict[str, Any]
KINDS = ("PodMonitor", "ServiceMonitor", "PrometheusRule", "ConfigMap")


def test_nothing_is_rendered_by_default(helm: Helm) -> None:
    objects = helm.template({})
    found = [entry["metadata"]["name"] for entry in objects if entry["kind"] in KINDS]
    assert found == ["llm-llm-operator-learned"], "the operator's own, without data"


def test_the_charts_files_are_the_generated_ones() -> None:
    for name, text in files().items():
        assert (CHART / "files" / name).read_text() == text, f"{name}: run make generate"


@pytest.mark.parametrize("kind", ["podMonitor", "serviceMonitor"])
def test_the_operators_metrics_keep_their_own_namespace(helm: Helm, kind: str) -> None:
    (monitor,) = [
        entry for entry in helm.template({"metrics": {kind: {"enabled": True}}}) if entry["kind"].endswith("Monitor")
    ]
    (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True


def engines(helm: Helm, values: JSON | None = None, **monitor: Any) -> list[JSON]:
    metrics = {"engines": {"podMonitor": {"enabled": True, **monitor}}}
    return of_kind(helm.template({"metrics": metrics, **(values or {})}), "PodMonitor")


def relabelled(monitor: JSON, labels: dict[str, str]) -> dict[str, str] | None:
    """What Prometheus makes of a pod's labels by the monitor's relabelings; None if the pod is dropped."""
    result = dict(labels)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for rule in endpoint["relabelings"]:
        source = ";".join(result.get(name, "") for name in rule["sourceLabels"])
        if rule.get("action") == "drop":
            if re.fullmatch(rule["regex"], source):
                return None
        else:
            result[rule["targetLabel"]] = source
    return result


def pod(namespace: str, name: str) -> dict[str, str]:
    return {
        "__meta_kubernetes_namespace": namespace,
        "__meta_kubernetes_pod_label_llm_operator_dev_deployment": name,
        "__meta_kubernetes_pod_node_name": "node-1",
    }


def test_engines_are_found_in_all_namespaces_and_named_after_their_object(helm: Helm) -> None:
    (monitor,) = engines(helm)
    assert monitor["metadata"]["namespace"] == NAMESPACE
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    found = relabelled(monitor, pod("team", "qwen"))
    assert found is not None
    assert (found["name"], found["node"]) == ("qwen", "node-1")


def test_engines_of_the_served_namespaces_only(helm: Helm) -> None:
    (monitor,) = engines(helm, {"watchNamespaces": ["a", "b"]})
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["a", "b"]}


def test_an_object_with_a_key_has_a_monitor_that_refers_to_its_secret(helm: Helm) -> None:
    secret = {"name": "qwen-key", "key": "key"}
    everybody, protected = engines(helm, protected=[{"namespace": "team", "name": "qwen", "secret": secret}])
    assert relabelled(everybody, pod("team", "qwen")) is None
    assert relabelled(everybody, pod("other", "qwen")) is not None
    assert relabelled(everybody, pod("team", "qwen2")) is not None
    assert protected["metadata"]["namespace"] == "team"
    assert protected["spec"]["selector"]["matchLabels"]["llm-operator.dev/deployment"] == "qwen"
    (endpoint,) = protected["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": secret}
    assert (relabelled(protected, pod("team", "qwen")) or {})["name"] == "qwen"


@pytest.mark.parametrize(
    ("scraped", "stored"),
    [
        ("lmdeploy_num_requests_running", "lmdeploy:num_requests_running"),
        ("vllm_prompt_tokens_total", "vllm:prompt_tokens_total"),
        ("lmdeploy:num_requests_running", "lmdeploy:num_requests_running"),
        ("process_open_fds", "process_open_fds"),
    ],
)
def test_names_that_a_python_client_has_escaped_get_their_colon_back(helm: Helm, scraped: str, stored: str) -> None:
    secret = {"name": "qwen-key", "key": "key"}
    for monitor in engines(helm, protected=[{"namespace": "team", "name": "qwen", "secret": secret}]):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (rule,) = endpoint["metricRelabelings"]
        assert rule["targetLabel"] == "__name__"
        match = re.fullmatch(rule["regex"], scraped)
        assert (match.expand(re.sub(r"\$(\d)", r"\\\1", rule["replacement"])) if match else scraped) == stored


def test_rules_link_to_the_runbooks_and_watch_this_releases_lease(helm: Helm) -> None:
    values = {"metrics": {"rules": {"enabled": True, "runbooks": "https://runbooks.example/llm"}}}
    rule = only(helm.template(values), "PrometheusRule")
    written = yaml.safe_load(files()["rules.yaml"])
    assert [group["name"] for group in rule["spec"]["groups"]] == [group["name"] for group in written["groups"]]
    alerts = {entry["alert"]: entry for group in rule["spec"]["groups"] for entry in group["rules"] if "alert" in entry}
    assert 'name="llm-llm-operator"' in alerts["LLMOperatorNoLeader"]["expr"]
    for name, entry in alerts.items():
        assert entry["annotations"]["runbook_url"] == f"https://runbooks.example/llm/{name}"


def test_dashboards_are_configmaps_for_the_sidecar(helm: Helm) -> None:
    values = {"metrics": {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "LLM"}}}}
    found = [entry for entry in of_kind(helm.template(values), "ConfigMap") if "data" in entry]
    assert len(found) == len(DASHBOARDS)
    for entry in found:
        assert entry["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert entry["metadata"]["annotations"] == {"grafana_folder": "LLM"}
        ((name, text),) = entry["data"].items()
        assert name.endswith(".json")
        assert json.loads(text)["panels"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rules": {"runbooks": "https://x.example/"}}, "runbooks"),
        ({"engines": {"podMonitor": {"protected": [{"namespace": "team", "name": "qwen"}]}}}, "secret"),
        ({"engines": {"podmonitor": {}}}, "podmonitor"),
        ({"dashboards": {"labels": {"a": 1}}}, "labels"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, values: JSON, said: str) -> None:
    assert said in helm.refusal({"metrics": values})


def test_every_panel_says_what_to_read_from_it() -> None:
    """Who is woken at night reads a title, a unit and one sentence."""
    for dashboard in DASHBOARDS:
        panels = [panel for panel in render(dashboard)["panels"] if panel["type"] != "row"]
        assert len({panel["title"] + panel["type"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["description"].endswith((".", "?")), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert all(target["expr"] for target in panel["targets"]), panel["title"]
