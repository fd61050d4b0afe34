"""Observed -> decide -> apply -> status. Everything here is pure: no clock, no network, no Kubernetes client."""
