"""One pure builder per Kubernetes kind: from a resource and a decided engine run to the object that is applied."""
