"""All requests but watches: server-side apply, status, delete, list and the Lease's, over aiohttp's connections.

An apply through the `kubernetes` package costs 0.8-1.2 ms of CPU, one through aiohttp 0.2 ms (kubernetes 37.0.2,
16 at a time): with four writes or more per object that is most of the operator's time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from pydantic_core import to_json

from llm_operator.api import API_VERSION, KIND
from llm_operator.foreign import UnreadableError, read_answer, read_object
from llm_operator.kube.answers import retry_after
from llm_operator.kube.connection import Connection
from llm_operator.kube.encoding import as_go, yaml_safe
from llm_operator.kube.exchange import Answer
from llm_operator.kube.reading import UNREACHABLE, TooLongError, check_values
from llm_operator.kube.transport import Transport
from llm_operator.manifests.common import MANAGER
from llm_operator.manifests.kinds import KINDS, METADATA, Verb
from llm_operator.telemetry.metrics import Metrics

JSON = dict[str, Any]

LIST_CHUNK = 100
"""Objects of a page. To parse one of 500 Deployments holds up everything else for 90 ms, one of 100 for 10 ms."""
PAGE_BYTES = 64 << 20
"""Of one page of a list; a longer one is requested in smaller pages."""
OBJECT_BYTES = 8 << 20
"""Of one object; etcd takes 1.5 MiB."""
EVENTS_BYTES = 1 << 20
"""Of the events of one object; the kubelet's have 1 KiB each."""
ERROR_BYTES = 1 << 20
MESSAGE_CHARACTERS = 4096
"""Of an error's message: some quote the whole object."""
MOST_CAUSES = 16
"""Of an error's causes, those that are looked at."""
OF_EVERY_OBJECT = ("name", "namespace", "uid")
"""Texts in the metadata of every object of the kinds here."""


REPLACED = "Replaced"
"""Reason of a write that names the uid of an object in whose place there is another one by now."""


NOT_IN_SCHEMA = "field not declared in schema"
"""In the answer to an apply with a field that the API server does not have (kube-apiserver 1.30)."""


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        retry_after: float | None = None,
        causes: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.causes = causes
        """Reasons in the details, such as NamespaceTerminating."""
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""


UNREADABLE = (ApiError, *UNREACHABLE)
"""What a read raises that the API server refuses or does not answer."""


class ApiClient:
    """A few verbs of the API server over one pool of connections."""

    def __init__(
        self,
        connection: Connection,
        metrics: Metrics,
        connections: int = 32,
        fence: Callable[[], float] | None = None,
    ) -> None:
        self._transport = Transport(connection, metrics, connections, fence)
        self._server = connection.server

    async def __aenter__(self) -> Self:
        """Open the pools."""
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pools."""
        await self._transport.close()

    async def apply(self, body: JSON, *, force: bool, dry_run: bool = False) -> JSON:
        """Server-side apply of one object under the operator's field manager; the stored object comes back.

        With `dry_run` it is what would be stored, and nothing is.

        Raises:
            ApiError: refused; 409 where `force` is false and somebody else owns a field.
        """
        kind, meta = body["kind"], body["metadata"]
        path = _path("patch", kind, meta["namespace"], meta["name"])
        parameters = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        if dry_run:
            parameters["dryRun"] = "All"
        answer = await self._request("PATCH", path, parameters, body, "application/apply-patch+yaml")
        return self._stored(answer, tried=dry_run)

    async def apply_status(self, namespace: str, name: str, uid: str, status: JSON, version: str | None = None) -> JSON:
        """Server-side apply of an LLMDeployment's status; fields left out are removed.

        Raises:
            ApiError: refused; 409 if the object of that name has another uid, or is no longer of that version.
        """
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        if version is not None:
            body["metadata"] = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version}
        path = _path("patch", KIND, namespace, f"{name}/status")
        parameters = {"fieldManager": MANAGER, "force": "true"}
        return self._stored(await self._request("PATCH", path, parameters, body, "application/apply-patch+yaml"))

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete one object if it still is the one that was seen."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request("DELETE", _path("delete", kind, namespace, name), {}, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def annotate(
        self,
        kind: str,
        namespace: str,
        name: str,
        uid: str,
        annotations: dict[str, str | None],
        spec: JSON | None = None,
    ) -> JSON:
        """Set annotations of one object, or remove those that are None; the stored object comes back.

        Fields of `spec` are set by the same write.

        Raises:
            ApiError: refused; 409 Replaced if the object of that name has another uid.
        """
        path = _path("patch", kind, namespace, name)
        body: JSON = {"metadata": {"uid": uid, "annotations": annotations}, **({"spec": spec} if spec else {})}
        return self._stored(
            await self._request("PATCH", path, {"fieldManager": MANAGER}, body, "application/merge-patch+json")
        )

    async def get(self, kind: str, namespace: str, name: str, *, metadata_only: bool = False) -> JSON:
        """Read one object, or its metadata alone."""
        accept = METADATA if metadata_only else "application/json"
        return self._stored(await self._request("GET", _path("get", kind, namespace, name), {}, accept=accept))

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        """Create one object; the stored object comes back. With `dry_run` nothing is stored.

        Raises:
            ApiError: refused; 409 AlreadyExists if there is one of that name.
        """
        parameters = {"fieldManager": MANAGER, **({"dryRun": "All"} if dry_run else {})}
        path = _path("create", body["kind"], body["metadata"]["namespace"])
        return self._stored(await self._request("POST", path, parameters, body), tried=dry_run)

    async def replace(self, body: JSON) -> JSON:
        """Write one object as a whole; the stored object comes back.

        Raises:
            ApiError: refused; 409 if it is no longer of the body's version.
        """
        meta = body["metadata"]
        path = _path("update", body["kind"], meta["namespace"], meta["name"])
        return self._stored(await self._request("PUT", path, {"fieldManager": MANAGER}, body))

    async def review(self, kind: str, spec: JSON) -> JSON:
        """Ask the API server's authentication or authorization; the review's status comes back, and nothing is stored.

        Args:
            kind: TokenReview or SubjectAccessReview.
            spec: of the review.

        Raises:
            ApiError: refused, or no review came back.
        """
        path = _path("create", kind, None)
        answer = await self._request("POST", path, {}, {"spec": spec})
        status = answer.get("status")
        if not isinstance(status, dict):
            raise ApiError(502, "Unreadable", f"{self._server} answered with something that is not a {kind}")
        return status

    async def patch(self, kind: str, namespace: str, name: str, patch: Any, *, dry_run: bool = False) -> JSON:
        """Apply a JSON patch (RFC 6902); the stored object comes back. With `dry_run` nothing is stored."""
        path = _path("patch", kind, namespace, name)
        parameters = {"fieldManager": MANAGER, **({"dryRun": "All"} if dry_run else {})}
        return self._stored(await self._request("PATCH", path, parameters, patch, "application/json-patch+json"))

    async def read_log(
        self,
        namespace: str,
        pod: str,
        container: str,
        limit_bytes: int,
        last_lines: int | None = None,
        *,
        previous: bool = False,
    ) -> str:
        """The beginning of a container's log, or its last lines; with `previous`, of the container before this one.

        Raises:
            ApiError: refused, or the kubelet cannot be reached.
            TimeoutError: no answer within LOG_TIMEOUT_SECONDS.
        """
        parameters = {"container": container, "limitBytes": str(limit_bytes)}
        if last_lines is not None:
            parameters["tailLines"] = str(last_lines)
        if previous:
            parameters["previous"] = "true"
        path = _path("get", "Pod", namespace, f"{pod}/log")
        try:
            text = _accepted(await self._transport.read_log(path, parameters, 2 * limit_bytes + ERROR_BYTES))
        except TooLongError as error:
            raise ApiError(502, "Unreadable", f"the log of {pod}: {error}") from error
        return text.decode(errors="replace")

    async def list_events(self, namespace: str, uid: str, most: int) -> Sequence[object]:
        """What events say of one object, the oldest first; unchecked, as others wrote it.

        Args:
            namespace: the object's.
            uid: the object's.
            most: events.

        Raises:
            ApiError: refused, or more bytes than EVENTS_BYTES.
        """
        parameters = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(most)}
        path = _path("list", "Event", namespace)
        items = (await self._request("GET", path, parameters, limit_bytes=EVENTS_BYTES)).get("items")
        if not isinstance(items, list):
            raise ApiError(502, "Unreadable", f"{self._server} answered with something that is not a list")
        return items[:most]

    async def list(
        self,
        kind: str,
        namespace: str | None,
        selector: str = "",
        listed_at: Callable[[str], None] = lambda _: None,
    ) -> AsyncIterator[JSON]:
        """All objects of a kind in a namespace, or everywhere, read in chunks.

        Args:
            kind: in the table of kinds.
            namespace: None for all.
            selector: label selector.
            listed_at: called at the end with the version of the list, from which a watch may go on.
        """
        path = _path("list", kind, namespace)
        parameters = {"labelSelector": selector}
        limit = LIST_CHUNK
        while True:
            try:
                page = await self._request(
                    "GET",
                    path,
                    {**parameters, "limit": str(limit)},
                    page=limit,
                    accept=KINDS[kind].accept(of_list=True),
                )
            except TooLongError as error:
                if limit == 1:
                    raise ApiError(502, "Unreadable", f"{path}: {error}") from error
                limit = max(1, limit // 8)
                continue
            items, meta = KINDS[kind].items(page), page.get("metadata")
            if not isinstance(items, list) or not isinstance(meta, dict):
                # To take it for an empty list would forget everything of this kind.
                raise ApiError(502, "Unreadable", f"{self._server} answered with something that is not a list")
            for item in items:
                if isinstance(item, dict):
                    item["kind"] = kind
                    yield item
            token = meta.get("continue")
            if not token:
                if isinstance(meta.get("resourceVersion"), str):
                    listed_at(meta["resourceVersion"])
                return
            parameters = {**parameters, "continue": token}

    def _stored(self, answer: JSON, *, tried: bool = False) -> JSON:
        """An answer that must be an object of the API server's."""
        meta = answer.get("metadata")
        # A creation that was only tried has no version.
        texts = OF_EVERY_OBJECT if tried else (*OF_EVERY_OBJECT, "resourceVersion")
        if not isinstance(meta, dict) or not all(isinstance(meta.get(name), str) for name in texts):
            raise ApiError(502, "Unreadable", f"{self._server} answered with something that is not a Kubernetes object")
        return answer

    async def _request(  # noqa: PLR0913 - each kind of request has its limits
        self,
        method: str,
        path: str,
        parameters: dict[str, str],
        body: Any = None,
        content: str = "application/json",
        *,
        page: int = 0,
        limit_bytes: int = 0,
        accept: str = "application/json",
    ) -> JSON:
        # pydantic's parser and writer take half and a third of the time of the standard library's.
        try:
            most = limit_bytes or (PAGE_BYTES if page else OBJECT_BYTES)
            headers = {"Content-Type": content, "Accept": accept}
            encode = as_go if content == "application/json" else yaml_safe
            data = None if body is None else encode(to_json(body))
            text = _accepted(await self._transport.send(method, path, parameters, headers, data, most))
            if page > 1:
                check_values(text)
        except TooLongError as error:
            if page:
                raise
            raise ApiError(502, "Unreadable", f"{path}: {error}") from error
        try:
            answer, _ = read_answer(text)
        except UnreadableError:
            answer = None
        if not isinstance(answer, dict):
            # The page of a proxy, or an answer that was cut: as transient as a proxy's own 502.
            raise ApiError(502, "Unreadable", f"{self._server} answered with something that is not a JSON object")
        return answer


def _path(verb: Verb, kind: str, namespace: str | None, name: str = "") -> str:
    """Path of the objects of a kind, or of one of them.

    Args:
        verb: what is to be done.
        kind: in the table of kinds.
        namespace: None for all.
        name: of the object, with its subresource if that is meant: `demo/status`.

    Raises:
        ValueError: the chart does not grant this verb.
    """
    row = KINDS[kind]
    row.needs(verb, name.partition("/")[2])
    path = row.path(namespace)
    return f"{path}/{name}" if name else path


def _accepted(answer: Answer) -> bytes:
    """The text of an answer that is not a refusal.

    Raises:
        ApiError: it is one.
    """
    if answer.status >= 400:
        raise _error(answer.status, answer.text, retry_after(answer.headers))
    return answer.text


def _error(status: int, text: bytes, wait: float | None) -> ApiError:
    answer = read_object(text, ERROR_BYTES)
    reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))[:MESSAGE_CHARACTERS]
    if not answer:
        message = text[:500].decode(errors="replace")
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    known = causes[:MOST_CAUSES] if isinstance(causes, list) else []
    found = [one for one in known if isinstance(one, dict)]
    if status == 422 and any(one.get("field") == "metadata.uid" for one in found):
        # A patch has no precondition: the API server takes the uid in it for a change of a field that never changes.
        status, reason = 409, REPLACED
    if status == 500 and NOT_IN_SCHEMA in message:
        # An apply with a field that this version does not have: it is refused, and would be each time.
        status, reason = 422, "Invalid"
    return ApiError(status, reason, message, wait, frozenset(str(one.get("reason"))[:64] for one in found))
