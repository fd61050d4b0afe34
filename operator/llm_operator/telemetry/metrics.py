"""Prometheus metrics, with the names and labels of controller-runtime so that existing dashboards work."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CONTROLLER = "llmdeployment"
JOB_CONTROLLER = "modeljob"

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

TASK_FAILURES = Counter(
    "llm_operator_task_failures_total",
    "Background tasks that failed or ended although they should not.",
    ["task"],
    registry=None,
)
"""One of the process: tasks are started from everywhere (kube/tasks.py). Every registry here shows it."""


class Metrics:
    """All metrics of one operator process, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reg = self.registry
        self.reconcile_total = Counter(
            "controller_runtime_reconcile_total", "Reconciliations by result.", ["controller", "result"], registry=reg
        )
        self.reconcile_errors_total = Counter(
            "controller_runtime_reconcile_errors_total", "Reconciliations that failed.", ["controller"], registry=reg
        )
        self.reconcile_time = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Duration of a reconciliation.",
            ["controller"],
            buckets=_SECONDS,
            registry=reg,
        )
        self.active_workers = Gauge(
            "controller_runtime_active_workers", "Workers that reconcile.", ["controller"], registry=reg
        )
        self.max_concurrent = Gauge(
            "controller_runtime_max_concurrent_reconciles", "Workers there are.", ["controller"], registry=reg
        )
        self.queue_depth = Gauge("workqueue_depth", "Keys waiting.", ["name"], registry=reg)
        self.queue_adds = Counter("workqueue_adds_total", "Keys added.", ["name"], registry=reg)
        self.queue_retries = Counter(
            "workqueue_retries_total", "Keys added again after a failure.", ["name"], registry=reg
        )
        self.queue_wait = Histogram(
            "workqueue_queue_duration_seconds", "Time a key waits.", ["name"], buckets=_SECONDS, registry=reg
        )
        self.queue_work = Histogram(
            "workqueue_work_duration_seconds", "Time a key is worked on.", ["name"], buckets=_SECONDS, registry=reg
        )
        self.longest_running = Gauge(
            "workqueue_longest_running_processor_seconds", "Age of the oldest key in work.", ["name"], registry=reg
        )
        self.requests = Counter(
            "rest_client_requests_total", "Requests to the API server.", ["code", "method"], registry=reg
        )
        self.relist_repairs = Counter(
            "llm_operator_relist_repairs_total",
            "Changes found by a relist that the watches had missed.",
            ["kind"],
            registry=reg,
        )
        self.watch_interruptions = Counter(
            "llm_operator_watch_interruptions_total",
            "Watches and their lists that were refused, cut or answered with something else; they go on.",
            ["kind"],
            registry=reg,
        )
        self.watch_restarts = Counter(
            "llm_operator_watch_restarts_total", "Times that all watches were restarted.", registry=reg
        )
        self.unreadable = Counter(
            "llm_operator_unreadable_objects_total",
            "Objects from the API server that could not be read and were left out.",
            ["kind"],
            registry=reg,
        )
        reg.register(TASK_FAILURES)
        self.leader = Gauge("leader_election_master_status", "1 while this process leads.", ["name"], registry=reg)
