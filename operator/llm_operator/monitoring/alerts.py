"""Alerts: what wakes a person, each with a runbook page in docs/runbooks.

An alert's labels name the object (`namespace`, `name`); its description gives the reason that the object's condition
has at that moment, and the command that says what to do about it, from the table of reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from llm_operator.monitoring.rules import restarts

JSON = dict[str, Any]

LEASE = 'name="llm-operator"'
"""The chart puts the name of its release's Lease here."""
SHOULD_SERVE = "on (namespace, name) (llmdeployment_replicas_desired > 0)"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: CamelCase; docs/runbooks/<name>.md explains it.
        expression: PromQL.
        lasts: for how long the expression must hold before the alert fires.
        severity: critical wakes a person, warning waits for the morning, info is for a dashboard.
        summary: one sentence with the object's labels.
        condition: type of the condition whose reason the description quotes; None for alerts without an object.
        description: what follows from it.
    """

    name: str
    expression: str
    lasts: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str
    condition: str | None = None


def _condition(kind: str, status: str) -> str:
    # The reason may change while the object stays broken: it must not start the clock again.
    return f'max by (namespace, name) (llmdeployment_condition{{type="{kind}", status="{status}"}})'


def _grown(counter: str, window: str) -> str:
    """Whether a counter whose labels are not known before grew within a window: the first count makes its series.

    `increase` of a series that begins with 1 is 0. A series that was there before the window is not new, also if
    Prometheus missed it for a while.
    """
    new = f"{counter} unless count_over_time({counter}[1d] offset {window})"
    return f"sum(increase({counter}[{window}])) > 0 or sum({new}) > 0"


OBJECT = "{{ $labels.namespace }}/{{ $labels.name }}"

ALERTS: tuple[Alert, ...] = (
    Alert(
        "LLMDeploymentNotReady",
        f"{_condition('Ready', 'False')} and {SHOULD_SERVE}",
        "10m",
        "critical",
        f"{OBJECT} should serve and does not.",
        "Requests to this object fail, or fewer replicas answer than it requests.",
        "Ready",
    ),
    Alert(
        "LLMDeploymentLoadingLong",
        f"{_condition('Ready', 'Unknown')} and {SHOULD_SERVE}",
        "1h",
        "warning",
        f"{OBJECT} has been starting for an hour.",
        "The model is still being prepared or loaded. status.progress says how far it is.",
        "Ready",
    ),
    Alert(
        "LLMDeploymentStalled",
        _condition("Stalled", "True"),
        "5m",
        "warning",
        f"{OBJECT} waits for a change of its spec or of what it refers to.",
        "The operator cannot go on by itself. The last working pods, if any, keep serving.",
        "Stalled",
    ),
    Alert(
        "LLMEngineRestarting",
        f"{restarts('1h')} >= 3",
        "0m",
        "warning",
        f"The engine of {OBJECT} has restarted at least three times within an hour.",
        "Each restart ends the running requests of one replica and takes a full load of the model.",
        "Ready",
    ),
    Alert(
        "LLMDeploymentUnhealthy",
        f"{_condition('Healthy', 'False')} and {SHOULD_SERVE}",
        "2m",
        "warning",
        f"{OBJECT} answers its health checks and does not work as it should.",
        "The operator saw it in the engine's own metrics. The condition names the pod and what to do.",
        "Healthy",
    ),
    Alert(
        "LLMEngineHung",
        "llm:requests_running > 0 and llm:generation_tokens:rate5m == 0 and llm:prompt_tokens:rate5m == 0",
        "5m",
        "critical",
        f"{OBJECT} has running requests and has produced no token for 10 minutes.",
        "The engine answers its health check and does no work. Delete the pod to get a new engine.",
    ),
    Alert(
        "LLMEngineKVCacheFull",
        "llm:kv_cache_usage_ratio > 0.95 and llm:requests_waiting > 0",
        "10m",
        "warning",
        f"The KV cache of {OBJECT} is full and requests wait for it.",
        "More replicas, a smaller KV cache format (kvCache.quantization), or shorter requests help.",
    ),
    Alert(
        "LLMEngineQueueGrowing",
        "min_over_time(llm:requests_waiting[15m]) > 0 and delta(llm:requests_waiting[15m]) > 5",
        "5m",
        "warning",
        f"More requests arrive at {OBJECT} than it completes.",
        "The queue has not been empty for 15 minutes and is longer than it was.",
    ),
    Alert(
        "LLMTimeToFirstTokenUnusual",
        "llm:time_to_first_token_seconds:p95 > 2 and llm:time_to_first_token_seconds:p95 > "
        "3 * avg_over_time(llm:time_to_first_token_seconds:p95[1d])",
        "15m",
        "info",
        f"The time to the first token of {OBJECT} is three times what it was on average over the last day.",
        "Compare waiting requests, KV cache usage and prompt lengths on the engines dashboard.",
    ),
    Alert(
        "LLMPlanDeviation",
        "llmdeployment_kv_tokens_deviation_ratio > 0.05 or llmdeployment_kv_tokens_deviation_ratio < -0.05",
        "15m",
        "info",
        f"The engine of {OBJECT} holds another number of KV tokens than planned.",
        "The difference is {{ $value | humanizePercentage }}. The condition Planned gives both numbers.",
        "Planned",
    ),
    Alert(
        "LLMModelDownloadStalled",
        "changes(llmdeployment_progress_bytes[15m]) == 0 "
        "and llmdeployment_progress_bytes < llmdeployment_progress_total_bytes",
        "5m",
        "warning",
        f"The preparation of the model of {OBJECT} has made no progress for 20 minutes.",
        "No byte was read or written in that time.",
        "ModelCached",
    ),
    Alert(
        "LLMOperatorErrors",
        'sum(rate(controller_runtime_reconcile_errors_total{controller=~"llmdeployment|modeljob"}[5m])) > 0',
        "15m",
        "warning",
        "The operator fails to reconcile objects.",
        "Changes of some objects are not carried out. Its log names them: filter by level WARNING.",
    ),
    Alert(
        "LLMOperatorNoLeader",
        f"(sum(leader_election_master_status{{{LEASE}}}) or vector(0)) == 0",
        "5m",
        "critical",
        "No operator leads.",
        "What serves keeps serving. Changes, recoveries and new objects wait until an operator runs.",
    ),
    Alert(
        "LLMOperatorTwoLeaders",
        f"sum(leader_election_master_status{{{LEASE}}}) > 1",
        "1m",
        "critical",
        "Two operators believe that they lead.",
        "Both may write the same objects. Delete one of the operator's pods.",
    ),
    Alert(
        "LLMOperatorMissesChanges",
        "sum(increase(llm_operator_relist_repairs_total[30m])) > 0",
        "0m",
        "info",
        "The operator's watches have missed changes; a relist found them.",
        "Once is harmless. If it repeats, look for a proxy that cuts or buffers watch connections.",
    ),
    Alert(
        "LLMOperatorWatchesRestart",
        "sum(increase(llm_operator_watch_restarts_total[1h])) > 0",
        "0m",
        "warning",
        "All watches of the operator were restarted.",
        "Until they had listed again, changes were noticed late. The operator ends itself if that happens often.",
    ),
    Alert(
        "LLMOperatorTaskFailures",
        _grown("llm_operator_task_failures_total", "1h"),
        "0m",
        "warning",
        "Background tasks of the operator fail.",
        "Facts, measurements or progress of some objects are missing or late. Its log has the error of each.",
    ),
)


def alert_rules() -> list[JSON]:
    """The alerts as Prometheus loads them."""
    return [_rule(alert) for alert in ALERTS]


def _rule(alert: Alert) -> JSON:
    rule: JSON = {"alert": alert.name, "expr": alert.expression}
    if alert.lasts != "0m":
        rule["for"] = alert.lasts
    rule["labels"] = {"severity": alert.severity}
    rule["annotations"] = {
        "summary": alert.summary,
        "description": alert.description + (_reason(alert.condition) if alert.condition else ""),
        "runbook_url": f"@RUNBOOKS@/{alert.name}",
    }
    return rule


def _reason(condition: str) -> str:
    query = f"llmdeployment_condition{{type='{condition}', namespace='%s', name='%s'}}"
    return (
        f'{{{{ with printf "{query}" $labels.namespace $labels.name | query }}}}'
        f' Condition {condition}: {{{{ . | first | label "status" }}}}, '
        '{{ . | first | label "reason" }}. What to do: kubectl llm explain {{ . | first | label "reason" }}.{{ end }}'
    )
