"""What an answer of the API server must be before kopf reads it: checked here, without any I/O."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from llm_operator.api import GROUP, KIND
from llm_operator.foreign import UnreadableError, natural_number, read_answer
from llm_operator.kube.reading import TooLongError, check_values, read_at_most
from llm_operator.manifests.kinds import KINDS

JSON = dict[str, Any]

PAGE_BYTES = 64 << 20
LINE_BYTES = 8 << 20
"""One event; etcd takes objects of 1.5 MiB."""


RETRY_AFTER_LIMIT_SECONDS = 60.0
"""A proxy in between may write anything into that header; the API server names a few seconds."""


class BadAnswerError(Exception):
    """An answer that is not what was requested; the message says what it is."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def needed_resources() -> dict[str, set[str]]:
    """The plurals of what kopf watches that each group and version must have, by its path in the discovery."""
    row = KINDS[KIND]
    return {row.group_path: {row.plural}}


def check_discovery(path: str, body: JSON) -> None:
    """kopf reads the discovery once; what it does not find there, it never watches.

    Raises:
        BadAnswerError: something is missing, for now.
    """
    if path == "/api" and body.get("versions") != ["v1"]:
        raise BadAnswerError("an answer that is not the API's versions")
    if path == "/apis":
        groups = body.get("groups")
        found = (
            {group.get("name") for group in groups if isinstance(group, dict)} if isinstance(groups, list) else set()
        )
        if GROUP not in found:
            raise BadAnswerError(f"the API server has no {GROUP}")
    if path in (needed := needed_resources()):
        resources = body.get("resources")
        names = [one.get("name") for one in resources if isinstance(one, dict)] if isinstance(resources, list) else []
        absent = needed[path] - set(names)
        if absent:
            raise BadAnswerError(f"the API server has no {', '.join(sorted(absent))}")


async def read_json_object(answer: aiohttp.ClientResponse, *, several: bool = False) -> JSON:
    """The JSON object of an answer.

    Args:
        answer: whose headers have come.
        several: it is a page of several objects, which can be requested with fewer.

    Raises:
        BadAnswerError: a refusal, or no JSON object.
        TooLongError: it has too many bytes, or too many values for several objects.
    """
    text = await read_at_most(answer, PAGE_BYTES)
    if several:
        check_values(text)
    try:
        body, _ = read_answer(text)
    except UnreadableError:
        body = None
    if answer.status >= 300:
        raise BadAnswerError(f"{answer.status} {told(body)}", retry_after(answer.headers) or 0.0)
    if not isinstance(body, dict):
        raise BadAnswerError(f"{answer.content_type} that is not a JSON object")
    return body


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait, at most RETRY_AFTER_LIMIT_SECONDS; None if it does not say."""
    seconds = natural_number(headers.get("Retry-After", ""))
    return None if seconds is None else min(float(seconds), RETRY_AFTER_LIMIT_SECONDS)


def told(body: object) -> str:
    """Reason and message of a Status."""
    if not isinstance(body, Mapping):
        return "without a reason"
    return " ".join(str(body[name])[:200] for name in ("reason", "message") if body.get(name))


async def lines_of(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """The lines of a watch, without their ends.

    Raises:
        TooLongError, BadAnswerError: a line is too long, or the last one was cut.
    """
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES:
            raise TooLongError(f"an event of more than {LINE_BYTES:,} bytes")
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        raise BadAnswerError("an event that was cut")


def event_of_line(line: bytes) -> tuple[JSON, bytes]:
    """The event of a line, and its text, which kopf can process however deeply the line was nested.

    Raises:
        BadAnswerError: it is none.
    """
    try:
        event, line = read_answer(line)
    except UnreadableError:
        event = None
    if not isinstance(event, dict):
        raise BadAnswerError("a line that is not an event")
    return event, line


def code_of(event: JSON) -> object:
    """The code of an ERROR event."""
    status = event.get("object")
    return status.get("code") if isinstance(status, dict) else None


def is_understood(event: JSON) -> bool:
    """Whether kopf can process an event; it ends at one without these fields."""
    body = event.get("object")
    if event.get("type") == "BOOKMARK":
        meta = body.get("metadata") if isinstance(body, dict) else None
        return isinstance(meta, dict) and isinstance(meta.get("resourceVersion"), str)
    return event.get("type") in ("ADDED", "MODIFIED", "DELETED") and is_identified(body)


def is_identified(body: object) -> bool:
    """Whether an object has the metadata by which it is known."""
    meta = body.get("metadata") if isinstance(body, dict) else None
    return isinstance(meta, dict) and all(
        isinstance(meta.get(name), str) for name in ("name", "namespace", "uid", "resourceVersion")
    )
