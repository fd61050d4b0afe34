"""`kubectl llm`: what the operator knows, without a cluster."""
