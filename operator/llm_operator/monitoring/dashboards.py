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
                Panel(
                    "Objects",
                    (("count(llmdeployment_info" + CHOSEN + ")", ""),),
                    kind="stat",
                    width=4,
                    text="LLMDeployments that are chosen above.",
                ),
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
                    text="Objects with replicas, whose condition Ready is not True. The table Conditions has why.",
                ),
                Panel(
                    "GPUs requested",
                    ((f"sum(llmdeployment_gpus_requested{CHOSEN})", ""),),
                    kind="stat",
                    width=4,
                    text="By all replicas of the specs, whether they run or not.",
                ),
                Panel(
                    "Requests running",
                    ((f"sum(llm:requests_running{CHOSEN})", ""),),
                    kind="stat",
                    width=4,
                    text="Requests that the engines work on.",
                ),
                Panel(
                    "Requests waiting",
                    ((f"sum(llm:requests_waiting{CHOSEN})", ""),),
                    kind="stat",
                    width=4,
                    text="Requests in the engines' queues. See KV cache in use: do they wait for memory?",
                ),
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
                    text="Engine, model and plan of each object.",
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
                Panel(
                    "Requests running",
                    _by_object("llm:requests_running"),
                    text="At most maxConcurrentSequences for each replica.",
                ),
                Panel(
                    "Requests waiting", _by_object("llm:requests_waiting"), text="A queue that grows needs replicas."
                ),
                Panel(
                    "Requests finished per second",
                    _by_object("llm:requests_finished:rate5m"),
                    "reqps",
                    text="Over 5 minutes.",
                ),
                Panel(
                    "Generated tokens per second",
                    _by_object("llm:generation_tokens:rate5m"),
                    text="Over 5 minutes. 0 while requests run: the engine reads long prompts, or hangs.",
                ),
                Panel(
                    "Prompt tokens per second",
                    _by_object("llm:prompt_tokens:rate5m"),
                    text="Over 5 minutes. More of them make running answers slower.",
                ),
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
                Panel(
                    "Time to first token",
                    _quantiles("llm:time_to_first_token_seconds"),
                    "s",
                    text="From a request's arrival to its first token. 50 % of the requests are faster than p50.",
                ),
                Panel(
                    "Time between tokens",
                    _quantiles("llm:inter_token_latency_seconds"),
                    "s",
                    text="Between two tokens of one answer. It grows with the requests that run.",
                ),
                Panel(
                    "Time of a request",
                    _quantiles("llm:request_latency_seconds"),
                    "s",
                    text="From a request's arrival to its last token. Long answers take long.",
                ),
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
                    text="Per replica; held: as the engine reports. 5 % apart: see the alert LLMPlanDeviation.",
                ),
                Panel("KV tokens in use", _by_object("llm:kv_tokens_used"), text="Of all replicas together."),
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
                    text="Ready below desired for long: the table Conditions has the reason.",
                ),
                Panel(
                    "Rollouts",
                    ((f"llm:revision{CHOSEN}", OBJECT),),
                    text="The number of the revision that runs: each step is a rollout. "
                    "kubectl llm history NAME says what it changed.",
                ),
                Panel(
                    "Time from start to Ready",
                    _by_object("llmdeployment_seconds_to_ready"),
                    "s",
                    text="Of the engine that became Ready last: what its next start will take.",
                ),
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
                    text="How long the condition Ready was False or Unknown, by its reason.",
                    width=12,
                    value="Time",
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
                Panel(
                    "Leaders",
                    (("sum(leader_election_master_status) or vector(0)", ""),),
                    kind="stat",
                    width=6,
                    text="1 for each release. 0: nothing is reconciled, or Prometheus does not scrape the operator.",
                ),
                Panel(
                    "Objects",
                    (("max(llmdeployment_objects)", ""),),
                    kind="stat",
                    width=6,
                    text="LLMDeployments that the operator serves.",
                ),
                Panel(
                    "Queue",
                    (('sum(workqueue_depth{name=~"llmdeployment|modeljob"})', ""),),
                    kind="stat",
                    width=6,
                    text="Objects and Jobs that wait for a worker. It is 0 most of the time.",
                ),
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
                    text="Each is tried again. The operator's log has the object and the error.",
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
                    "ops",
                    text="By result. `error` is tried again, ever later.",
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
                    text="With the requests to the API server. A slow API server shows here first.",
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
                    text="From a change to the start of its reconciliation: 99 % are faster.",
                ),
                Panel(
                    "Requests to the API server per second",
                    (("sum by (code, method) (rate(rest_client_requests_total[5m]))", "{{method}} {{code}}"),),
                    "reqps",
                    text="By method and answer. 403: a right is missing; 429 and 5xx: the API server is overloaded.",
                ),
                Panel(
                    "Changes found by relists",
                    (("sum by (kind) (increase(llm_operator_relist_repairs_total[1h]))", "{{kind}}"),),
                    text="Changes that no watch reported, in an hour. See the alert LLMOperatorMissesChanges.",
                ),
                Panel(
                    "Objects by condition",
                    (
                        (
                            'count by (type, status) (llmdeployment_condition{type=~"Ready|Stalled|Planned"})',
                            "{{type}} {{status}}",
                        ),
                    ),
                    text="How many objects have each status of Ready, Stalled and Planned.",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (ENGINES, OPERATOR)
