"""The API server that a command talks to: a few synchronous requests over kept connections."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from llm_operator.cli.errors import BadInputError
from llm_operator.cli.kubeconfig import Access, load
from llm_operator.foreign import UnreadableError, read_json

JSON = dict[str, Any]

GROUP, VERSION, KIND, PLURAL = "llm-operator.dev", "v1alpha1", "LLMDeployment", "llmdeployments"
"""As in llm_operator.api, which takes 0.15 s to import; a test holds them together."""
CHUNK = 500
TIMEOUT_SECONDS = (5, 30)
"""To connect, and between two bytes of an answer."""
ANSWER_BYTES = 64 << 20
MOST_CONNECTIONS = 256
"""Kept open, as many as `bench` uses at a time."""
MERGE_PATCH = "application/merge-patch+json"
_NARROWER = re.compile(rf'cannot (get|list) resource "({PLURAL}|jobs)"')
OBJECTS = f"apis/{GROUP}/{VERSION}"


class RequestRefusedError(BadInputError):
    """The API server answered with an error.

    Attributes:
        status: the HTTP status.
        said: the server's own message.
    """

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__([f"cannot {what}: {_refusal(status, said)}"])
        self.status = status
        self.said = said


class UnreachableError(BadInputError):
    """The API server does not answer."""


class Cluster:
    """One API server, with the rights of one user."""

    def __init__(self, access: Access, seconds: tuple[float, float] = TIMEOUT_SECONDS) -> None:
        """Seconds: to connect, and between two bytes of an answer."""
        self.access = access
        self._seconds = seconds
        self.namespace = access.namespace
        """The one that the kubeconfig's context, or the pod, stands in."""
        options: dict[str, Any] = {
            "retries": False,
            "timeout": urllib3.Timeout(connect=seconds[0], read=seconds[1]),
            "headers": dict(access.headers),
            "maxsize": MOST_CONNECTIONS,
        }
        if access.tls is not None:
            options["ssl_context"] = access.tls
            if access.server_name:
                options |= {"assert_hostname": access.server_name, "server_hostname": access.server_name}
        self.proxy = access.proxy or _environment_proxy(access.server)
        """URL of the HTTP proxy on the way; None: there is none."""
        self._pool = urllib3.ProxyManager(self.proxy, **options) if self.proxy else urllib3.PoolManager(**options)

    def jobs(self, namespace: str | None, selector: str) -> list[JSON]:
        """Jobs by label; of all namespaces if none is given.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        return self.list("apis/batch/v1", "jobs", namespace, selector)

    def objects(self, namespace: str | None) -> list[JSON]:
        """The LLMDeployments.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        return self.list(OBJECTS, PLURAL, namespace, "")

    def object(self, namespace: str, name: str) -> JSON:
        """One LLMDeployment.

        Raises:
            BadInputError: there is none of that name (the nearest are named), or the API server refuses.
        """
        try:
            return self.get(f"/{OBJECTS}/namespaces/{namespace}/{PLURAL}/{quote(name, safe='')}", f"get {KIND} {name}")
        except RequestRefusedError as error:
            if error.status != 404 or "not found" not in error.said:
                raise
        raise BadInputError([f"there is no {KIND} {name!r} in namespace {namespace}{self._near(namespace, name)}"])

    def _near(self, namespace: str, name: str) -> str:
        from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

        try:
            found = [item["metadata"]["name"] for item in self.objects(namespace)]
        except BadInputError:
            return ""
        near = get_close_matches(name, found, n=3, cutoff=0.5)
        if near:
            return f"; did you mean {', '.join(near)}?"
        return f"; it has {', '.join(found[:5])}" if found else "; it has none: name another namespace with -n"

    def annotate_job(self, namespace: str, name: str, resource_version: str, annotations: dict[str, str]) -> bool:
        """Annotate a Job unless it has changed since it was read; returns whether it was annotated.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        body = {"metadata": {"resourceVersion": resource_version, "annotations": annotations}}
        try:
            self.patch(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}", body, f"patch Job {namespace}/{name}")
        except RequestRefusedError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def list(self, prefix: str, plural: str, namespace: str | None, selector: str = "") -> list[JSON]:
        """All objects of a kind, page by page.

        Args:
            prefix: `api/v1`, or `apis/GROUP/VERSION`.
            plural: the kind's name in paths.
            namespace: None: every namespace.
            selector: of labels.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        path = f"/{prefix}/{plural}" if namespace is None else f"/{prefix}/namespaces/{namespace}/{plural}"
        items: list[JSON] = []
        more: dict[str, str] = {}
        while True:
            options = {"limit": str(CHUNK), **({"labelSelector": selector} if selector else {}), **more}
            page = self.get(f"{path}?{urlencode(options)}", f"list {plural}")
            if not isinstance(page.get("items"), list):
                raise BadInputError([f"{self.access.server} is not a Kubernetes API server: its answer is not a list"])
            items += page["items"]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            more = {"continue": token}

    def get(self, path: str, what: str) -> JSON:
        """The JSON of a path.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        return self._json("GET", path, what)

    def patch(self, path: str, body: JSON, what: str) -> JSON:
        """JSON merge patch.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        return self._json("PATCH", path, what, json.dumps(body).encode(), MERGE_PATCH)

    def text(self, path: str, what: str, limit: int = ANSWER_BYTES) -> str:
        """The text of a path, at most `limit` bytes of it.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        with self.open("GET", path, what) as answer, self._told():
            return answer.read(limit).decode(errors="replace")

    def lines(self, answer: urllib3.BaseHTTPResponse, limit: int) -> Iterator[bytes]:
        """The lines of an answer as they arrive, each at most `limit` bytes.

        Raises:
            BadInputError: a line is longer, or the connection breaks.
        """
        rest = b""
        with self._told():
            for piece in answer.stream(1 << 16):
                *whole, rest = (rest + piece).split(b"\n")
                yield from whole
                if len(rest) > limit:
                    raise BadInputError([f"a line of the answer is longer than {limit:,} bytes"])
            if rest:
                yield rest

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        what: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer to be read piece by piece; its connection is closed at the end unless it was read whole.

        Raises:
            BadInputError: the API server refuses, or cannot be reached.
        """
        with self._told():
            answer = self._pool.request(
                method,
                self.access.server + path,
                body=body,
                headers={**self.access.headers, **(headers or {})},
                preload_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=self._seconds[0], read=read_seconds or self._seconds[1]),
            )
        try:
            if answer.status >= 300:
                with self._told():
                    said = answer.read(1 << 20).decode(errors="replace")
                raise RequestRefusedError(what, answer.status, refusal_text(said) or answer.reason or "")
            yield answer
        finally:
            answer.close()
            answer.release_conn()

    def _json(self, method: str, path: str, what: str, body: bytes | None = None, content: str = "") -> JSON:
        headers = {"Accept": "application/json", **({"Content-Type": content} if content else {})}
        with self.open(method, path, what, body, headers) as answer, self._told():
            text = answer.read(ANSWER_BYTES)
        try:
            value = read_json(text, ANSWER_BYTES)
        except UnreadableError:
            value = None
        if not isinstance(value, dict):
            raise BadInputError([f"{self.access.server} is not a Kubernetes API server: its answer is not a list"])
        return value

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(
                [
                    f"the API server {self.access.server} cannot be reached: {_reason(error)}; "
                    "check --kubeconfig and --context"
                ]
            ) from error


def _reason(error: Exception) -> str:
    """What went wrong on the way, without the names of the library's objects."""
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError) and not refused:
        return "it does not accept connections in time"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "it does not answer in time"
    text = " ".join(str(error).split())
    found = re.search(r"\[Errno -?[0-9]+\] [^)\]]{1,200}|certificate verify failed[^)]{0,200}|\[SSL[^)]{1,200}", text)
    return found[0].rstrip("')\"") if found else text[:300]


def _environment_proxy(server: str) -> str | None:
    """The proxy of HTTPS_PROXY and NO_PROXY, as kubectl uses them."""
    from urllib.parse import urlsplit  # noqa: PLC0415
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415

    parts = urlsplit(server)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme)
    if (
        not proxy
        or not proxy.startswith(("http://", "https://"))
        or parts.hostname in ("127.0.0.1", "localhost", "::1")
    ):
        return None
    return None if proxy_bypass(parts.netloc) else proxy


def _refusal(status: int, said: str) -> str:
    """What an API server's refusal means here."""
    if status == 401:
        return f"the API server does not accept these credentials: {said}"
    if status == 403:
        # The commands that take -n are about these; of nodes or Leases no namespace has any.
        elsewhere = ", or name a namespace with -n" if _NARROWER.search(said) else ""
        return f"{said}; request that right{elsewhere}"
    if status == 404:
        return f"{said}; is this a Kubernetes API server with the CRD of {KIND}?"
    return f"{status} {said}"


def refusal_text(body: str) -> str:
    """The message in an API server's Status, or in an engine's error."""
    try:
        said = read_json(body or "", limit=1 << 20)
    except UnreadableError:
        return body.strip()[:300] if body.isprintable() else ""
    for name in ("message", "error", "detail"):
        found = said.get(name) if isinstance(said, dict) else None
        found = found.get("message") if isinstance(found, dict) else found
        if isinstance(found, str) and found:
            return found
    return ""


def connect(kubeconfig: str | None, context: str | None, seconds: float | None = None) -> Cluster:
    """The cluster of a kubeconfig; inside a pod without one, the pod's own.

    Args:
        kubeconfig: path; None: $KUBECONFIG, else ~/.kube/config.
        context: context in it; None: its current one.
        seconds: longest wait for an answer; None: the usual ones.

    Raises:
        BadInputError: there is no such file or context, or it cannot be used.
    """
    return Cluster(load(kubeconfig, context), TIMEOUT_SECONDS if seconds is None else (seconds, seconds))
