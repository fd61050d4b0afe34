"""llm-operator: serves large language models on Kubernetes GPUs with LMDeploy and vLLM."""

__version__ = "0.1.0"
