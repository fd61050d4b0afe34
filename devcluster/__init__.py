"""A real Kubernetes on one machine, without a container registry: for development, tests and the demo."""
