"""Access to an API server as kubectl would choose it: kubeconfig files, or the pod's own service account.

The package `kubernetes` reads kubeconfig files too. But importing it takes a quarter of a second, more than all the
rest of a command; and it waits for a credential plugin without end, reads a token's file once, and makes no use of a
rotated client certificate (kubernetes 37.0.2, config/kube_config.py). This module needs PyYAML only.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from llm_operator.foreign import UnreadableError, read_file, read_json

JSON = dict[str, Any]

DEFAULT_KUBECONFIG = "~/.kube/config"
EXEC_SECONDS = 60
EXEC_BYTES = 1 << 20
FILE_BYTES = 4 << 20
FILES = ("client-certificate", "client-key", "tokenFile")
"""Of a user of a kubeconfig."""
_Placed = tuple[JSON, Path]
"""An entry of a kubeconfig, and the folder that its relative paths start from."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(Exception):
    """There is no access to an API server, or it cannot be used; the message lists all problems."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an API server.

    Attributes:
        server: base URL, without a slash at its end.
        namespace: the context's, else `default`.
        tls: trust and client certificate; None for http.
        headers: credentials and impersonation, of every request.
        proxy: URL of the HTTP proxy; None: the environment's.
        server_name: name that the server's certificate must have; None: the host of `server`.
        files: what was read; after a change of one of them the access is another one.
        expires: when the credentials end, in seconds since the epoch; None: not known.
    """

    server: str
    namespace: str
    tls: ssl.SSLContext | None
    headers: Mapping[str, str] = field(repr=False)
    proxy: str | None = None
    server_name: str | None = None
    files: tuple[Path, ...] = ()
    expires: float | None = None


def load(kubeconfig: str | None, context: str | None, plugin_seconds: float = EXEC_SECONDS) -> Access:
    """The access of a kubeconfig; inside a pod without one, the pod's own.

    Args:
        kubeconfig: path; None: $KUBECONFIG (several files are merged), else ~/.kube/config.
        context: context in it; None: its current one.
        plugin_seconds: how long a credential plugin may take.

    Raises:
        KubeconfigError: there is no such file or context, or it cannot be used.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if not named and not context and not Path(DEFAULT_KUBECONFIG).expanduser().exists():
        return own()
    chosen = named or DEFAULT_KUBECONFIG
    paths = [chosen] if kubeconfig or not named else [path for path in named.split(os.pathsep) if path]
    try:
        return _from_files([Path(path).expanduser() for path in paths], chosen, context, plugin_seconds)
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise KubeconfigError([f"the kubeconfig {chosen} cannot be used: {type(error).__name__}: {reason}"]) from error


def contexts(kubeconfig: str | None) -> list[str]:
    """Names of the contexts of a kubeconfig; none if it cannot be read.

    Args:
        kubeconfig: path; None: $KUBECONFIG, else ~/.kube/config.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    names: list[str] = []
    for path in [kubeconfig] if kubeconfig else [path for path in named.split(os.pathsep) if path]:
        try:
            entries = _document(Path(path).expanduser()).get("contexts") or ()
            names += [str(entry["name"]) for entry in entries]
        except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
            continue
    return names


def _from_files(paths: Sequence[Path], chosen: str, context: str | None, plugin_seconds: float) -> Access:
    found: dict[str, dict[str, _Placed]] = {"clusters": {}, "users": {}, "contexts": {}}
    current: str | None = None
    present = [path for path in paths if path.exists()]
    if not present:
        raise KubeconfigError([f"the kubeconfig {chosen} does not exist; give --kubeconfig, or set KUBECONFIG"])
    for path in present:
        document = _document(path)
        current = current or document.get("current-context") or None
        for part, entries in found.items():
            for entry in document.get(part) or ():
                # The first file that names it wins, as in kubectl.
                entries.setdefault(str(entry["name"]), (entry.get(part[:-1]) or {}, path.parent))
    name = context or current
    if not name:
        raise KubeconfigError([f"the kubeconfig {chosen} has no current context; name one with --context"])
    chosen_context, _ = _entry(found, "contexts", name, chosen)
    cluster, cluster_folder = _entry(found, "clusters", str(chosen_context.get("cluster", "")), chosen)
    user: JSON = {}
    user_folder = cluster_folder
    if chosen_context.get("user"):
        user, user_folder = _entry(found, "users", str(chosen_context["user"]), chosen)
    namespace = str(chosen_context.get("namespace") or "default")
    access = _access((cluster, cluster_folder), (user, user_folder), namespace, plugin_seconds)
    return replace(access, files=(*present, *access.files))


def _document(path: Path) -> JSON:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES + 1)
    if len(content) > FILE_BYTES:
        raise ValueError(f"{path} is larger than {FILE_BYTES} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = yaml.load(content, loader) or {}  # noqa: S506, TID251 - the safe loader, in C if there is one
    if not isinstance(document, dict):
        raise ValueError(f"{path} is not a kubeconfig")
    return document


def _entry(
    found: Mapping[str, Mapping[str, tuple[JSON, Path]]], part: str, name: str, chosen: str
) -> tuple[JSON, Path]:
    try:
        return found[part][name]
    except KeyError:
        from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

        near = get_close_matches(name, found[part], n=3) or sorted(found[part])[:5]
        hint = f"; it has {', '.join(near)}" if near else "; it has none"
        raise KubeconfigError([f"the kubeconfig {chosen} has no {part[:-1]} {name!r}{hint}"]) from None


def _access(of_cluster: _Placed, of_user: _Placed, namespace: str, plugin_seconds: float) -> Access:
    (cluster, cluster_folder), (user, user_folder) = of_cluster, of_user
    server = str(cluster["server"]).rstrip("/")
    proxy = cluster.get("proxy-url") or None
    if proxy and not str(proxy).startswith(("http://", "https://")):
        raise KubeconfigError([f"proxy-url {proxy}: only proxies that speak HTTP are supported"])
    credentials = _Credentials(user, user_folder)
    if "exec" in user:
        credentials.take(_run_plugin(user["exec"], cluster, user_folder, plugin_seconds))
    tls = None
    if server.startswith("https://"):
        tls = _trust(cluster, cluster_folder)
        credentials.present(tls)
    name = cluster.get("tls-server-name") or None
    trusted = [cluster_folder / cluster["certificate-authority"]] if cluster.get("certificate-authority") else []
    files = (*trusted, *credentials.files)
    return Access(server, namespace, tls, credentials.headers(), proxy, name, files, credentials.expires)


def _trust(cluster: JSON, folder: Path) -> ssl.SSLContext:
    data = _inline(cluster, "certificate-authority")
    file = cluster.get("certificate-authority")
    tls = ssl.create_default_context(
        cadata=data.decode() if data else None, cafile=str(folder / file) if file and not data else None
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _inline(entry: JSON, name: str) -> bytes | None:
    data = entry.get(f"{name}-data")
    try:
        return base64.b64decode(data, validate=True) if data else None
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name}-data is not base64") from error


class _Credentials:
    """What a user of a kubeconfig presents."""

    def __init__(self, user: JSON, folder: Path) -> None:
        if "auth-provider" in user:
            raise KubeconfigError(
                ["auth-provider was removed from Kubernetes 1.26: use an exec plugin in the kubeconfig instead"]
            )
        self._user = user
        self._certificate = _inline(user, "client-certificate")
        self._key = _inline(user, "client-key")
        self._files = [
            str(folder / user[name]) if user.get(name) else None for name in ("client-certificate", "client-key")
        ]
        self.files = tuple(folder / user[name] for name in FILES if user.get(name))
        """What credentials were read from."""
        self.expires: float | None = None
        """When they end, in seconds since the epoch; None: not known."""
        self._token: str | None = user.get("token")
        if user.get("tokenFile"):
            self._token = read_file(folder / user["tokenFile"], FILE_BYTES).decode().strip()

    def take(self, status: JSON) -> None:
        """What an exec plugin answered."""
        self._token = status.get("token") or self._token
        try:
            self.expires = datetime.fromisoformat(str(status.get("expirationTimestamp"))).astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            self.expires = None
        if status.get("clientCertificateData"):
            self._certificate = str(status["clientCertificateData"]).encode()
            self._key = str(status["clientKeyData"]).encode()

    def present(self, tls: ssl.SSLContext) -> None:
        """Load the client certificate, if there is one."""
        certificate, key = self._files
        if self._certificate is not None or self._key is not None:
            # OpenSSL reads certificates from files only. The folder is this user's alone.
            with tempfile.TemporaryDirectory(prefix="llm-operator-") as folder:
                for name, data in (("certificate", self._certificate), ("key", self._key)):
                    if data is not None:
                        (Path(folder) / name).write_bytes(data)
                certificate = f"{folder}/certificate" if self._certificate is not None else certificate
                key = f"{folder}/key" if self._key is not None else key
                if certificate:
                    tls.load_cert_chain(certificate, key)
        elif certificate:
            tls.load_cert_chain(certificate, key)

    def headers(self) -> dict[str, str]:
        """Authorization and impersonation."""
        headers: dict[str, str] = {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        elif self._user.get("username"):
            pair = f"{self._user['username']}:{self._user.get('password', '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if self._user.get("as"):
            headers["Impersonate-User"] = str(self._user["as"])
        groups = self._user.get("as-groups") or ()
        if len(groups) > 1:
            raise KubeconfigError(["the kubeconfig impersonates more than one group, which is not supported"])
        if groups:
            headers["Impersonate-Group"] = str(groups[0])
        return headers


def _run_plugin(plugin: JSON, cluster: JSON, folder: Path, seconds: float) -> JSON:
    """Run a credential plugin (client-go's exec protocol); the status of its answer."""
    command = str(plugin["command"])
    if os.sep in command:
        command = str(folder / command)
    spec: JSON = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        known = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
        spec["cluster"] = {name: cluster[name] for name in known if name in cluster}
    import json  # noqa: PLC0415

    asked = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
    environment = {**os.environ, "KUBERNETES_EXEC_INFO": json.dumps(asked)}
    environment |= {str(entry["name"]): str(entry["value"]) for entry in plugin.get("env") or ()}
    hint = f"; {plugin['installHint']}" if plugin.get("installHint") else ""
    try:
        done = subprocess.run(
            [command, *(str(argument) for argument in plugin.get("args") or ())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise KubeconfigError(
            [f"the credential plugin {command} cannot be run: {error.strerror or error}{hint}"]
        ) from None
    except subprocess.TimeoutExpired:
        raise KubeconfigError([f"the credential plugin {command} did not answer within {seconds:.0f} s"]) from None
    if done.returncode != 0:
        raise KubeconfigError([f"the credential plugin {command} failed with exit code {done.returncode}"])
    try:
        status = read_json(done.stdout, EXEC_BYTES)["status"]
    except (UnreadableError, KeyError, TypeError):
        raise KubeconfigError([f"the credential plugin {command} did not answer with an ExecCredential"]) from None
    if not isinstance(status, dict):
        raise KubeconfigError([f"the credential plugin {command} answered without credentials"])
    return status


def own() -> Access:
    """The service account of the pod that this runs in.

    Raises:
        KubeconfigError: this is not a pod, or it has no service account.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        if not host:
            raise OSError("KUBERNETES_SERVICE_HOST is not set")
        token = read_file(ACCOUNT / "token", FILE_BYTES).decode().strip()
        namespace = read_file(ACCOUNT / "namespace", FILE_BYTES).decode().strip()
        tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    except OSError as error:
        text = f"no cluster configured: there is no {DEFAULT_KUBECONFIG}, and this is not a pod ({error})"
        raise KubeconfigError([f"{text}; give --kubeconfig, or set KUBECONFIG"]) from error
    shown = f"[{host}]" if ":" in host else host
    files = (ACCOUNT / "token", ACCOUNT / "ca.crt")
    headers = {"Authorization": f"Bearer {token}"}
    return Access(f"https://{shown}:{port}", namespace, tls, headers, files=files)
