"""Metrics and logs: what the operator says of itself."""
