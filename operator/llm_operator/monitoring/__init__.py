"""Recording rules, alerts and dashboards: data made from one list of quantities, written into the chart.

`python -m llm_operator.monitoring --write helm/llm-operator/files` writes them, `--check` compares. Nothing here runs
in the operator's process.
"""
