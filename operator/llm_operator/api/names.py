"""What the resource is called in the API."""

GROUP = "llm-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"
SINGULAR = "llmdeployment"
SHORT_NAMES = ["llmdep"]
CATEGORIES = ["llm"]
ANNOTATION_RESTARTED = f"{GROUP}/restartedAt"
"""On an object: replace the pods. The RFC 3339 time of the request; on a pod template: the one it was made for."""
