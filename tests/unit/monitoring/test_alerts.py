"""Rules and alerts, loaded and run by the real promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.monitoring.__main__ import files
from llm_operator.monitoring.alerts import ALERTS, Alert
from llm_operator.reasons import REASONS, explain

ROOT = Path(__file__).parents[3]
JSON = dict[str, Any]
BY_NAME = {alert.name: alert for alert in ALERTS}
OBJECT = 'namespace="team", name="qwen"'
ENGINE = f'{OBJECT}, pod="qwen-0", model_name="m", engine="0"'


def run(promtool: Path, *arguments: str) -> None:
    result = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(files()["rules.yaml"])
    return path


def test_prometheus_takes_the_rules(promtool: Path, rules: Path) -> None:
    run(promtool, "check", "rules", str(rules))


def condition(kind: str, status: str, reason: str, values: str = "1+0x200") -> JSON:
    labels = f'{OBJECT}, type="{kind}", status="{status}", reason="{reason}"'
    return {"series": f"llmdeployment_condition{{{labels}}}", "values": values}


def gauge(name: str, values: str, labels: str = OBJECT) -> JSON:
    return {"series": f"{name}{{{labels}}}", "values": values}


DESIRED = gauge("llmdeployment_replicas_desired", "1+0x200")
LEADER = 'name="llm-operator", pod="a"'
BUSY = gauge("vllm:num_requests_running", "4+0x200", ENGINE)
RESTARTS = "llmdeployment_engine_restarts_total"
TTFT = "lmdeploy:time_to_first_token_seconds_bucket"


def buckets(values: dict[str, str]) -> list[JSON]:
    return [gauge(TTFT, text, f'{ENGINE}, le="{bound}"') for bound, text in values.items()]


# What fires, by alert: series, minutes, and the reason that the description must quote.
FIRES: dict[str, tuple[list[JSON], int, str]] = {
    "LLMDeploymentNotReady": ([condition("Ready", "False", "SecretMissing"), DESIRED], 11, "SecretMissing"),
    "LLMDeploymentLoadingLong": ([condition("Ready", "Unknown", "Loading"), DESIRED], 61, "Loading"),
    "LLMDeploymentStalled": ([condition("Stalled", "True", "InvalidSpec")], 6, "InvalidSpec"),
    "LLMDeploymentUnhealthy": ([condition("Healthy", "False", "EngineSilent"), DESIRED], 4, "EngineSilent"),
    "LLMEngineRestarting": (
        [
            gauge(RESTARTS, "0x10 1x10 2x50", f'{OBJECT}, pod="qwen-0"'),
            gauge(RESTARTS, "0x30 1x40", f'{OBJECT}, pod="qwen-1"'),
        ],
        45,
        "",
    ),
    "LLMEngineHung": (
        [
            BUSY,
            gauge("vllm:generation_tokens_total", "500+0x60", ENGINE),
            gauge("vllm:prompt_tokens_total", "900+0x60", ENGINE),
        ],
        20,
        "",
    ),
    "LLMEngineKVCacheFull": (
        [
            gauge("lmdeploy:gpu_cache_usage_perc", "0.98+0x60", ENGINE),
            gauge("lmdeploy:num_requests_waiting", "0+0x60", ENGINE),
            gauge("lmdeploy:num_api_requests_waiting", "7+0x60", ENGINE),
        ],
        12,
        "",
    ),
    "LLMEngineQueueGrowing": ([gauge("vllm:num_requests_waiting", "1+1x60", ENGINE)], 30, ""),
    "LLMTimeToFirstTokenUnusual": (
        buckets({"1": "0+60x300 18000+0x100", "10": "0+60x400", "+Inf": "0+60x400"}),
        325,
        "",
    ),
    "LLMPlanDeviation": (
        [
            gauge("llmdeployment_kv_tokens_deviation_ratio", "-0.2+0x60"),
            condition("Planned", "True", "Fits"),
        ],
        16,
        "Fits",
    ),
    "LLMModelDownloadStalled": (
        [
            gauge("llmdeployment_progress_bytes", "700+0x60"),
            gauge("llmdeployment_progress_total_bytes", "1000+0x60"),
            condition("ModelCached", "False", "Fetching"),
        ],
        22,
        "Fetching",
    ),
    "LLMOperatorErrors": (
        [
            gauge("controller_runtime_reconcile_errors_total", "0+1x60", 'controller="modeljob"'),
        ],
        25,
        "",
    ),
    "LLMOperatorNoLeader": ([], 6, ""),
    "LLMOperatorTwoLeaders": (
        [
            gauge("leader_election_master_status", "1+0x60", LEADER),
            gauge("leader_election_master_status", "1+0x60", LEADER.replace('"a"', '"b"')),
        ],
        3,
        "",
    ),
    "LLMOperatorMissesChanges": ([gauge("llm_operator_relist_repairs_total", "0x10 3x30", 'kind="Pod"')], 15, ""),
    "LLMOperatorWatchesRestart": ([gauge("llm_operator_watch_restarts_total", "0x10 1x30", 'pod="a"')], 15, ""),
    "LLMOperatorTaskFailures": (
        [gauge("llm_operator_task_failures_total", "1x10 2x30", 'pod="a", task="measure"')],
        15,
        "",
    ),
}
# What must stay silent: the same quantities of objects that are well, parked, or busy in the usual way.
QUIET: dict[str, tuple[list[JSON], int]] = {
    "LLMDeploymentNotReady": (
        [condition("Ready", "False", "Stopped"), gauge("llmdeployment_replicas_desired", "0+0x200")],
        60,
    ),
    "LLMDeploymentLoadingLong": ([condition("Ready", "Unknown", "Loading"), DESIRED], 50),
    "LLMDeploymentStalled": ([condition("Stalled", "False", "Progressing")], 60),
    "LLMDeploymentUnhealthy": ([condition("Healthy", "Unknown", "MetricsClosed"), DESIRED], 60),
    # A rollout: pods that had restarted long ago go, others come.
    "LLMEngineRestarting": (
        [
            gauge(RESTARTS, "7x30 _x60", f'{OBJECT}, pod="qwen-0"'),
            gauge(RESTARTS, "4x31 _x60", f'{OBJECT}, pod="qwen-1"'),
            gauge(RESTARTS, "_x30 0x10 1x60", f'{OBJECT}, pod="qwen-2"'),
            gauge(RESTARTS, "_x31 0x60", f'{OBJECT}, pod="qwen-3"'),
        ],
        60,
    ),
    "LLMEngineHung": (
        [
            BUSY,
            gauge("vllm:generation_tokens_total", "500+9x60", ENGINE),
            gauge("vllm:prompt_tokens_total", "900+0x60", ENGINE),
        ],
        30,
    ),
    "LLMEngineKVCacheFull": (
        [
            gauge("lmdeploy:gpu_cache_usage_perc", "0.98+0x60", ENGINE),
            gauge("lmdeploy:num_requests_waiting", "0+0x60", ENGINE),
            gauge("lmdeploy:num_api_requests_waiting", "-202+0x60", ENGINE),
        ],
        30,
    ),
    "LLMEngineQueueGrowing": ([gauge("vllm:num_requests_waiting", "40-1x40", ENGINE)], 40),
    "LLMTimeToFirstTokenUnusual": (
        buckets({"1": "0x400", "10": "0+60x400", "+Inf": "0+60x400"}),
        390,
    ),
    "LLMPlanDeviation": ([gauge("llmdeployment_kv_tokens_deviation_ratio", "0.01+0x60")], 30),
    "LLMModelDownloadStalled": (
        [
            gauge("llmdeployment_progress_bytes", "700+5x60"),
            gauge("llmdeployment_progress_total_bytes", "1000+0x60"),
        ],
        40,
    ),
    "LLMOperatorErrors": (
        [gauge("controller_runtime_reconcile_errors_total", "5+0x60", 'controller="llmdeployment"')],
        60,
    ),
    "LLMOperatorNoLeader": ([gauge("leader_election_master_status", "1+0x60", LEADER)], 60),
    "LLMOperatorTwoLeaders": ([gauge("leader_election_master_status", "1+0x60", LEADER)], 60),
    "LLMOperatorMissesChanges": ([gauge("llm_operator_relist_repairs_total", "3x60", 'kind="Pod"')], 50),
    "LLMOperatorWatchesRestart": ([gauge("llm_operator_watch_restarts_total", "1x100", 'pod="a"')], 90),
    "LLMOperatorTaskFailures": (
        [gauge("llm_operator_task_failures_total", "2x100", 'pod="a", task="measure"')],
        90,
    ),
}


def evaluate(promtool: Path, rules: Path, series: list[JSON], minutes: int, expected: list[JSON], name: str) -> None:
    case = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": expected}],
            }
        ],
    }
    path = rules.with_name("case.yaml")
    path.write_text(yaml.safe_dump(case))
    run(promtool, "test", "rules", str(path))


def fired(alert: Alert, reason: str) -> JSON:
    """The alert as it must fire, its description with the condition that the object has then."""
    rule = next(
        rule
        for group in yaml.safe_load(files()["rules.yaml"])["groups"]
        for rule in group["rules"]
        if rule.get("alert") == alert.name
    )
    with_object = "namespace" in alert.summary
    labels = {"severity": alert.severity, **({"namespace": "team", "name": "qwen"} if with_object else {})}
    annotations = dict(rule["annotations"])
    annotations["summary"] = annotations["summary"].replace("{{ $labels.namespace }}/{{ $labels.name }}", "team/qwen")
    status = {"Stalled": "True", "Ready": "Unknown" if reason == "Loading" else "False", "ModelCached": "False"}
    status["Healthy"] = "False"
    text = alert.description.replace("{{ $value | humanizePercentage }}", "-20%")
    if alert.condition and reason:
        text += f" Condition {alert.condition}: {status.get(alert.condition, 'True')}, {reason}."
        text += f" What to do: kubectl llm explain {reason}."
    return {"exp_labels": labels, "exp_annotations": {**annotations, "description": text}}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_alert_fires_and_names_the_object_and_its_reason(promtool: Path, rules: Path, name: str) -> None:
    series, minutes, reason = FIRES[name]
    evaluate(promtool, rules, series, minutes, [fired(BY_NAME[name], reason)], name)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_alert_is_silent_for_what_is_well(promtool: Path, rules: Path, name: str) -> None:
    series, minutes = QUIET[name]
    evaluate(promtool, rules, series, minutes, [], name)


def test_a_changing_reason_does_not_start_the_clock_again(promtool: Path, rules: Path) -> None:
    series = [
        condition("Ready", "False", "ImagePullFailed", "1x5 _x60"),
        condition("Ready", "False", "SecretMissing", "_x5 1x60"),
        DESIRED,
    ]
    expected = [fired(BY_NAME["LLMDeploymentNotReady"], "SecretMissing")]
    evaluate(promtool, rules, series, 11, expected, "LLMDeploymentNotReady")


TASKS = "llm_operator_task_failures_total"


@pytest.mark.parametrize(
    ("values", "minutes", "fires"),
    [
        # The first failure of a kind of task makes the series, also in the first sample of a process.
        ("_x10 1x100", 11, True),
        ("1x100", 1, True),
        ("_x10 1x100", 60, True),
        ("_x10 1x100", 90, False),
        ("_x10 1x80 2x30", 92, True),
        # Prometheus was away, or the container began again.
        ("3x100 _x30 3x30", 150, False),
        ("3x30 0x60", 60, False),
        ("3x30 0x60 1x30", 93, True),
    ],
)
def test_the_first_failure_of_a_task_is_told(
    promtool: Path, rules: Path, values: str, minutes: int, *, fires: bool
) -> None:
    expected = [fired(BY_NAME["LLMOperatorTaskFailures"], "")] if fires else []
    series = [gauge(TASKS, values, 'pod="a", task="facts"'), gauge(TASKS, "0x200", 'pod="a", task="measure"')]
    evaluate(promtool, rules, series, minutes, expected, "LLMOperatorTaskFailures")


@pytest.mark.parametrize("name", BY_NAME)
def test_each_alert_has_a_runbook(name: str) -> None:
    page = ROOT / "docs" / "runbooks" / f"{name}.md"
    assert page.is_file(), f"{page.relative_to(ROOT)} is missing"
    assert page.read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("name", [name for name, given in FIRES.items() if given[2]])
def test_an_alert_quotes_reasons_of_the_table(name: str) -> None:
    """What its description tells one to type has an answer."""
    condition, reason = BY_NAME[name].condition, FIRES[name][2]
    assert any(condition in known.conditions for known in explain(reason)), (reason, condition)


def test_the_runbook_of_unhealthy_engines_has_every_such_reason() -> None:
    """Metrics that are closed leave the condition Unknown, which fires nothing."""
    page = (ROOT / "docs" / "runbooks" / "LLMDeploymentUnhealthy.md").read_text()
    unhealthy = {one.name for one in REASONS if one.conditions == ("Healthy",) and one.severity != "Info"}
    assert {name for name in unhealthy if f"`{name}`" in page} == unhealthy - {"MetricsClosed"}


def test_there_is_no_runbook_without_an_alert() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert pages == set(BY_NAME)


# What a failed Job, a refused plan or a stage says stands in Ready too, as the reason why the object does not serve.
BROKEN = sorted({reason.name for reason in REASONS if reason.severity != "Info" and "Ready" in reason.conditions})


def test_every_reason_of_an_object_that_should_serve_wakes_somebody(
    promtool: Path, rules: Path, tmp_path: Path
) -> None:
    assert {"SecretMissing", "ClaimMissing", "ImagePullFailed", "Unschedulable"} <= set(BROKEN)
    series = []
    for reason in BROKEN:
        labels = f'namespace="team", name="{reason.lower()}"'
        condition = f'{labels}, type="Ready", status="False", reason="{reason}"'
        series.append({"series": f"llmdeployment_condition{{{condition}}}", "values": "1+0x20"})
        series.append(gauge("llmdeployment_replicas_desired", "1+0x20", labels))
    # Parked: it should not serve.
    parked = 'namespace="team", name="parked"'
    condition = f'{parked}, type="Ready", status="False", reason="X"'
    series.append({"series": f"llmdeployment_condition{{{condition}}}", "values": "1+0x20"})
    series.append(gauge("llmdeployment_replicas_desired", "0+0x20", parked))
    firing = 'alertname="LLMDeploymentNotReady", alertstate="firing"'
    expected = [
        {"labels": f'ALERTS{{{firing}, namespace="team", name="{reason.lower()}", severity="critical"}}', "value": 1}
        for reason in BROKEN
    ]
    asked = {"expr": f"ALERTS{{{firing}}}", "eval_time": "15m", "exp_samples": expected}
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}],
    }
    path = tmp_path / "every-reason.yaml"
    path.write_text(yaml.safe_dump(test))
    run(promtool, "test", "rules", str(path))
