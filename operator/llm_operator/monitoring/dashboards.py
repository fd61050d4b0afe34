"""Grafana dashboards as data. Every query uses the names of rules.py or the operator's own metrics."""

from __future__ import annotations

from llm_operator.monitoring.grafana import Dashboard, Panel
from llm_operator.monitoring.rules import ends, restarts

CHOSEN = '{namespace=~"$namespace", name=~"$name"}'
OBJECT = "{{namespace}}/{{name}}"
WEEK_SECONDS = 7 * 86_400
NONE = f"on (namespace, name) (0 * max by (namespace, name) (llmdeployment_info{CHOSEN}))"
"""A row with 0 for each object that has none."""


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
