"""Grafana dashboards as data. Every query uses the names of rules.py or the operator's own metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_operator.monitoring.rules import ends, restarts

JSON = dict[str, Any]

SCHEMA_VERSION = 39
"""Grafana 10.4's; newer versions upgrade it when they load a dashboard."""
WIDTH = 24
CHOSEN = '{namespace=~"$namespace", name=~"$name"}'
LABELS_OF_THE_SCRAPE = ("__name__", "container", "endpoint", "instance", "job", "pod")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OBJECT = "{{namespace}}/{{name}}"
WEEK_SECONDS = 7 * 86_400
NONE = f"on (namespace, name) (0 * max by (namespace, name) (llmdeployment_info{CHOSEN}))"
"""A row with 0 for each object that has none."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        queries: PromQL and the legend of its series.
        unit: Grafana's unit: short, s, percentunit, bytes, reqps, ...
        kind: timeseries, stat or table.
        width: of 24 columns.
        text: what to read from it.
        value: name of the column with the value in a table; empty: a table without one.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    text: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard: rows of panels, each under a heading."""

    uid: str
    title: str
    by_object: bool
    rows: Sequence[tuple[str, Sequence[Panel]]]


def _by_object(expression: str) -> tuple[tuple[str, str], ...]:
    return ((f"{expression}{CHOSEN}", OBJECT),)


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{metric}:{name}{CHOSEN}", f"{OBJECT} {name}") for name in ("p50", "p95"))


ENGINES = Dashboard(
    "llm-operator-engines",
    "LLM engines",
    by_object=True,
    rows=(
        (
            "Now",
            (
                Panel("Objects", (("count(llmdeployment_info" + CHOSEN + ")", ""),), kind="stat", width=4),
                Panel(
                    "Not ready",
                    (
                        (
                            'count(llmdeployment_condition{type="Ready", status!="True", namespace=~"$namespace", '
                            'name=~"$name"} and on (namespace, name) (llmdeployment_replicas_desired > 0)) '
                            "or vector(0)",
                            "",
                        ),
                    ),
                    kind="stat",
                    width=4,
                ),
                Panel("GPUs requested", ((f"sum(llmdeployment_gpus_requested{CHOSEN})", ""),), kind="stat", width=4),
                Panel("Requests running", ((f"sum(llm:requests_running{CHOSEN})", ""),), kind="stat", width=4),
                Panel("Requests waiting", ((f"sum(llm:requests_waiting{CHOSEN})", ""),), kind="stat", width=4),
                Panel(
                    "Tokens per second",
                    ((f"sum(llm:generation_tokens:rate5m{CHOSEN})", ""),),
                    kind="stat",
                    width=4,
                    text="Generated tokens of all chosen objects.",
                ),
                Panel(
                    "What is served",
                    ((f"llmdeployment_info{CHOSEN}", ""),),
                    kind="table",
                    width=12,
                ),
                Panel(
                    "Conditions",
                    ((f'llmdeployment_condition{{type=~"Ready|Stalled|Planned", {CHOSEN[1:]}', ""),),
                    kind="table",
                    width=12,
                    text="Status and reason. kubectl llm explain REASON says what to do.",
                ),
            ),
        ),
        (
            "Load",
            (
                Panel("Requests running", _by_object("llm:requests_running")),
                Panel(
                    "Requests waiting", _by_object("llm:requests_waiting"), text="A queue that grows needs replicas."
                ),
                Panel("Requests finished per second", _by_object("llm:requests_finished:rate5m"), "reqps"),
                Panel("Generated tokens per second", _by_object("llm:generation_tokens:rate5m")),
                Panel("Prompt tokens per second", _by_object("llm:prompt_tokens:rate5m")),
                Panel(
                    "Time in the queue",
                    _quantiles("llm:request_queue_seconds"),
                    "s",
                    text="Time from a request's arrival until the engine works on it.",
                ),
            ),
        ),
        (
            "Latency",
            (
                Panel("Time to first token", _quantiles("llm:time_to_first_token_seconds"), "s"),
                Panel("Time between tokens", _quantiles("llm:inter_token_latency_seconds"), "s"),
                Panel("Time of a request", _quantiles("llm:request_latency_seconds"), "s"),
            ),
        ),
        (
            "Memory",
            (
                Panel(
                    "KV cache in use",
                    _by_object("llm:kv_cache_usage_ratio"),
                    "percentunit",
                    text="The fullest replica. Near 100 % requests wait or are preempted.",
                ),
                Panel(
                    "KV tokens: planned and held",
                    (
                        (f"llmdeployment_plan_kv_tokens{CHOSEN}", f"{OBJECT} planned"),
                        (f"llmdeployment_measured_kv_tokens{CHOSEN}", f"{OBJECT} held"),
                    ),
                    text="Per replica.",
                ),
                Panel("KV tokens in use", _by_object("llm:kv_tokens_used")),
            ),
        ),
        (
            "Life",
            (
                Panel(
                    "Replicas",
                    (
                        (f"llmdeployment_replicas_desired{CHOSEN}", f"{OBJECT} desired"),
                        (f"llmdeployment_replicas_updated{CHOSEN}", f"{OBJECT} of the current revision"),
                        (f"llmdeployment_replicas_ready{CHOSEN}", f"{OBJECT} ready"),
                    ),
                ),
                Panel(
                    "Rollouts",
                    ((f"llm:revision{CHOSEN}", OBJECT),),
                    text="The number of the revision that runs: each step is a rollout. "
                    "kubectl llm history NAME says what it changed.",
                ),
                Panel("Seconds from start to Ready", _by_object("llmdeployment_seconds_to_ready"), "s"),
            ),
        ),
        (
            "The last 7 days",
            (
                Panel(
                    "Engine ends by reason",
                    ((f"{ends(WEEK_SECONDS, CHOSEN)} or {NONE}", ""),),
                    kind="table",
                    text="How often engines ended, and why, with pods that are gone. "
                    "kubectl llm explain REASON says what to do.",
                    value="Ends",
                ),
                Panel(
                    "Engine restarts",
                    ((restarts("7d", CHOSEN), ""),),
                    kind="table",
                    text="Restarts of containers, with pods that are gone. A new pod is not a restart.",
                    value="Restarts",
                ),
                Panel(
                    "Pods and rollouts",
                    (
                        (
                            f"count by (namespace, name) (count_over_time(llm:engine_restarts{CHOSEN}[7d]))",
                            f"{OBJECT} pods",
                        ),
                        (f"changes(llm:revision{CHOSEN}[7d])", f"{OBJECT} rollouts"),
                    ),
                    kind="stat",
                    text="Engine pods that there were, and rollouts.",
                ),
                Panel(
                    "Restarts over time",
                    ((f"sum by (namespace, name) (llm:engine_restarts{CHOSEN})", OBJECT),),
                    text="Of the pods that exist at each moment.",
                    width=12,
                ),
                Panel(
                    "Time not ready, by reason",
                    (
                        (
                            "60 * sum by (namespace, name, reason) (sum_over_time(llmdeployment_condition"
                            f'{{type="Ready", status!="True", {CHOSEN[1:-1]}}}[7d:1m])) or {NONE}',
                            "",
                        ),
                    ),
                    "s",
                    kind="table",
                    text="Seconds that the condition Ready was False or Unknown, by its reason.",
                    width=12,
                    value="Seconds",
                ),
            ),
        ),
    ),
)

OPERATOR = Dashboard(
    "llm-operator",
    "LLM operator",
    by_object=False,
    rows=(
        (
            "Now",
            (
                Panel("Leaders", (("sum(leader_election_master_status) or vector(0)", ""),), kind="stat", width=6),
                Panel("Objects", (("llmdeployment_objects", ""),), kind="stat", width=6),
                Panel("Queue", (('sum(workqueue_depth{name=~"llmdeployment|modeljob"})', ""),), kind="stat", width=6),
                Panel(
                    "Reconciliations that failed, 1 h",
                    (
                        (
                            "sum(increase(controller_runtime_reconcile_errors_total"
                            '{controller=~"llmdeployment|modeljob"}[1h]))',
                            "",
                        ),
                    ),
                    kind="stat",
                    width=6,
                ),
            ),
        ),
        (
            "Work",
            (
                Panel(
                    "Reconciliations per second",
                    (
                        (
                            "sum by (result) (rate(controller_runtime_reconcile_total"
                            '{controller=~"llmdeployment|modeljob"}[5m]))',
                            "{{result}}",
                        ),
                    ),
                ),
                Panel(
                    "Duration of a reconciliation",
                    tuple(
                        (
                            f"histogram_quantile({share}, sum by (le) (rate("
                            "controller_runtime_reconcile_time_seconds_bucket"
                            '{controller=~"llmdeployment|modeljob"}[5m])))',
                            name,
                        )
                        for name, share in (("p50", "0.5"), ("p99", "0.99"))
                    ),
                    "s",
                ),
                Panel(
                    "Time in the queue",
                    (
                        (
                            "histogram_quantile(0.99, sum by (le) (rate("
                            'workqueue_queue_duration_seconds_bucket{name=~"llmdeployment|modeljob"}[5m])))',
                            "p99",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Requests to the API server per second",
                    (("sum by (code, method) (rate(rest_client_requests_total[5m]))", "{{method}} {{code}}"),),
                ),
                Panel(
                    "Changes found by relists",
                    (("sum by (kind) (increase(llm_operator_relist_repairs_total[1h]))", "{{kind}}"),),
                ),
                Panel(
                    "Objects by condition",
                    (
                        (
                            'count by (type, status) (llmdeployment_condition{type=~"Ready|Stalled|Planned"})',
                            "{{type}} {{status}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

DASHBOARDS = (ENGINES, OPERATOR)


def render(dashboard: Dashboard) -> JSON:
    """The dashboard as Grafana imports it."""
    panels: list[JSON] = []
    y = 0
    for heading, row in dashboard.rows:
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": heading, "gridPos": _place(0, y, WIDTH, 1), "panels": []}
        )
        x, y = 0, y + 1
        height = 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = 4 if panel.kind == "stat" else 8
            panels.append(_panel(panel, len(panels) + 1, _place(x, y, panel.width, height)))
            x += panel.width
        y += height
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["llm-operator"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables(dashboard.by_object)},
        "panels": panels,
    }


def queries(dashboard: Dashboard) -> tuple[str, ...]:
    """Every query of a dashboard, with all objects chosen."""
    return tuple(
        expression.replace("$namespace", ".*").replace("$name", ".*")
        for _, row in dashboard.rows
        for panel in row
        for expression, _ in panel.queries
    )


def _place(x: int, y: int, width: int, height: int) -> JSON:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: JSON) -> JSON:
    table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            **({"instant": True, "range": False, "format": "table"} if panel.kind != "timeseries" and table else {}),
            **({"instant": True, "range": False} if panel.kind == "stat" else {}),
        }
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    body: JSON = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0} if not table else {}, "overrides": []},
        "targets": targets,
    }
    if panel.text:
        body["description"] = panel.text
    if table:
        hidden = ("Time", *(() if panel.value else ("Value",)), *LABELS_OF_THE_SCRAPE)
        renamed = {"renameByName": {"Value": panel.value}} if panel.value else {}
        options = {"excludeByName": dict.fromkeys(hidden, True), **renamed}
        body["transformations"] = [{"id": "organize", "options": options}]
    return body


def _variables(by_object: bool) -> list[JSON]:
    variables: list[JSON] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    ]
    if by_object:
        variables += [
            _choice("namespace", "Namespace", "label_values(llmdeployment_info, namespace)"),
            _choice("name", "LLMDeployment", 'label_values(llmdeployment_info{namespace=~"$namespace"}, name)'),
        ]
    return variables


def _choice(name: str, label: str, query: str) -> JSON:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
