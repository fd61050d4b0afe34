"""Recording rules that give both engines' metrics one set of names, by namespace and name of the LLMDeployment."""

from __future__ import annotations

from typing import Any

from llm_operator.engines.metric_names import engines, metric_names

JSON = dict[str, Any]

OBJECT = "namespace, name"
"""The labels of every series: the operator's own metrics carry them, the engines' get them from the PodMonitor."""
QUANTILES = (("p50", "0.5"), ("p95", "0.95"))
HISTOGRAMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_latency_seconds",
    "request_queue_seconds",
)
COUNTERS = ("prompt_tokens", "generation_tokens", "requests_finished", "preemptions")
WINDOW = "5m"


def samples(quantity: str, suffix: str = "", window: str = "") -> str:
    """The samples of a quantity of whichever engine a pod runs, as one PromQL expression.

    Args:
        quantity: one of `engines.metric_names.quantities()`.
        suffix: `_bucket` for a histogram.
        window: range for `rate()`; empty for the present value.
    """
    parts = []
    for engine in engines():
        for metric in metric_names(engine, quantity)[:1]:
            text = f"{metric.name}{suffix}"
            parts.append(f"rate({text}[{window}])" if window else text)
    return " or ".join(parts)


def _waiting() -> str:
    """An engine may count apart what its API server holds back, and fall below 0 there (LMDeploy 0.18.0, measured)."""
    parts = []
    for engine in engines():
        first, *more = (metric.name for metric in metric_names(engine, "requests_waiting"))
        if more:
            parts.append(f"({' + '.join([first, *(f'clamp_min({name}, 0)' for name in more)])})")
        parts.append(first)
    return " or ".join(parts)


def recording_rules() -> list[JSON]:
    """One rule per quantity, rate and quantile."""
    rules = [
        _rule("llm:requests_running", f"sum by ({OBJECT}) ({samples('requests_running')})"),
        _rule("llm:requests_waiting", f"sum by ({OBJECT}) ({_waiting()})"),
        _rule("llm:kv_cache_usage_ratio", f"max by ({OBJECT}) ({samples('kv_cache_usage_ratio')})"),
        _rule(
            "llm:kv_tokens_used",
            f"sum by ({OBJECT}) ({samples('kv_cache_usage_ratio')}) * on ({OBJECT}) llmdeployment_measured_kv_tokens",
        ),
    ]
    rules += [
        _rule(f"llm:{counter}:rate{WINDOW}", f"sum by ({OBJECT}) ({samples(counter, window=WINDOW)})")
        for counter in COUNTERS
    ]
    rules += [
        _rule(
            f"llm:{histogram}:{name}",
            f"histogram_quantile({share}, sum by (le, {OBJECT}) ({samples(histogram, '_bucket', WINDOW)}))",
        )
        for histogram in HISTOGRAMS
        for name, share in QUANTILES
    ]
    # An operator that starts again has another `instance`: without it, a series goes on.
    rules += [
        _rule("llm:engine_restarts", f"max by ({OBJECT}, pod) (llmdeployment_engine_restarts_total)"),
        _rule(
            "llm:engine_last_end_timestamp_seconds",
            f"max by ({OBJECT}, pod, reason) (llmdeployment_engine_last_end_timestamp_seconds)",
        ),
        _rule("llm:revision", f"max by ({OBJECT}) (llmdeployment_revision)"),
    ]
    return rules


def restarts(window: str, chosen: str = "") -> str:
    """How often the engines of each object restarted in a window, in pods that exist and in those that are gone.

    Args:
        window: a range of Prometheus, such as `7d`.
        chosen: label matchers in braces; empty: all objects.
    """
    of = f"llm:engine_restarts{chosen}[{window}]"
    return f"sum by ({OBJECT}) (max_over_time({of}) - min_over_time({of}))"


def ends(seconds: int, chosen: str = "") -> str:
    """How often the engines of each object ended in a time up to now, by reason.

    A series has one value for each end: it changes with the second and later ones, and the first one counts if it was
    within the time.

    Args:
        seconds: length of that time.
        chosen: label matchers in braces; empty: all objects.
    """
    of = f"llm:engine_last_end_timestamp_seconds{chosen}[{seconds}s]"
    return f"sum by ({OBJECT}, reason) (changes({of}) + (min_over_time({of}) > bool (time() - {seconds})))"


def _rule(name: str, expression: str) -> JSON:
    return {"record": name, "expr": expression}
