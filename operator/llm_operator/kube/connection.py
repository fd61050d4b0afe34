"""How to reach the API server: what the `kubernetes` package finds, as plain values for every client here."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from kubernetes import client, config


class NoClusterError(Exception):
    """Neither a pod's service account nor a kubeconfig tells where the API server is."""


@dataclass(frozen=True)
class Connection:
    """One API server and the credentials for it."""

    configuration: client.Configuration

    @property
    def server(self) -> str:
        """Base URL without a trailing slash."""
        return str(self.configuration.host).rstrip("/")

    def authorization(self) -> str | None:
        """The Authorization header; refreshed where credentials expire."""
        hook = self.configuration.refresh_api_key_hook
        if hook is not None:
            hook(self.configuration)
        key: str | None = self.configuration.api_key.get("authorization") or self.configuration.api_key.get(
            "BearerToken"
        )
        if key is None:
            basic: str | None = self.configuration.get_basic_auth_token() if self.configuration.username else None
            return basic
        return key if " " in key else f"Bearer {key}"

    def ssl_context(self) -> ssl.SSLContext | bool:
        """TLS settings: the cluster's CA and, where there is one, the client certificate."""
        if not self.server.startswith("https"):
            return False
        context = ssl.create_default_context(cafile=self.configuration.ssl_ca_cert or None)
        if not self.configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.configuration.cert_file:
            context.load_cert_chain(self.configuration.cert_file, self.configuration.key_file or None)
        return context


def load() -> Connection:
    """Take the pod's service account, else the kubeconfig's current context.

    Raises:
        NoClusterError: neither is there; the message says what was tried.
    """
    configuration = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise NoClusterError(f"no cluster to talk to: {error}; run in a pod or set KUBECONFIG") from error
    return Connection(configuration)
