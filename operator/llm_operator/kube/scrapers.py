"""Who may read the metrics: the API server says whose a token is, and whether that user may GET /metrics."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from llm_operator.kube.client import UNREADABLE, ApiClient
from llm_operator.kube.connection import Connection
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.scrapers")

ALLOWED_SECONDS = 60.0
REFUSED_SECONDS = 10.0
MOST_REMEMBERED = 256
REVIEWS_PER_SECOND = 10
"""Each costs the API server two requests: tokens that somebody makes up must not become a flood there."""
TOKEN_CHARACTERS = 8192
PATH = "/metrics"


class Reviewer(Protocol):
    """The API client's part that is needed here."""

    async def review(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        """The status of a TokenReview or SubjectAccessReview."""


class ScrapeReview:
    """Answers are remembered by the token's hash."""

    def __init__(self, client: Reviewer, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[bytes, tuple[float, int]] = {}
        self._second, self._reviews = 0, 0

    async def __call__(self, authorization: str | None) -> int:
        """200, 401 without a valid token, 403 without the right, 503 if that cannot be found out now.

        Args:
            authorization: the header.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_CHARACTERS:
            return 401
        name = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        until, status = self._known.get(name, (0.0, 0))
        now = self._clock()
        if now < until:
            return status
        if self._too_many(now):
            return 503
        try:
            status = await self._ask(token)
        except UNREADABLE as error:
            log.warning("whether a scraper may read the metrics could not be found out: %s", error)
            return 503
        self._known.pop(name, None)
        self._known[name] = (now + (ALLOWED_SECONDS if status == 200 else REFUSED_SECONDS), status)
        if len(self._known) > MOST_REMEMBERED:
            self._forget()
        return status

    def _too_many(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._reviews = int(now), 0
        self._reviews += 1
        return self._reviews > REVIEWS_PER_SECOND

    def _forget(self) -> None:
        """Refused tokens first: anyone who makes them up must not drive out those that are allowed."""
        refused = next((name for name, (_, status) in self._known.items() if status != 200), None)
        del self._known[refused if refused is not None else next(iter(self._known))]

    async def _ask(self, token: str) -> int:
        told = await self._client.review("TokenReview", {"token": token})
        user = told.get("user")
        if told.get("authenticated") is not True or not isinstance(user, dict):
            return 401
        spec = {
            "nonResourceAttributes": {"path": PATH, "verb": "get"},
            **{field: user[field] for field in ("uid", "groups", "extra") if field in user},
            "user": user.get("username"),
        }
        allowed = await self._client.review("SubjectAccessReview", spec)
        return 200 if allowed.get("allowed") is True else 403


async def prepare(connection: Connection, metrics: Metrics) -> tuple[ScrapeReview, Callable[[], Awaitable[None]]]:
    """A review with its own connections, in the loop that asks it, and what closes them."""
    client = await ApiClient(connection, metrics, connections=2).__aenter__()

    async def close() -> None:
        await client.__aexit__(None, None, None)

    return ScrapeReview(client), close
