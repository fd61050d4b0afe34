"""Asks the API server whether it takes a pod template with a user's overlay, before anything is changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from llm_operator.api.overlay_owned import OverlayChild
from llm_operator.api.resource import LLMDeployment
from llm_operator.kube import ownership
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.kube.ownership import ForeignError
from llm_operator.manifests.common import LABEL_CHAT, compact_json
from llm_operator.manifests.kinds import WORKLOAD_KINDS
from llm_operator.manifests.overlay import FIELDS, in_words_of_overlay, overlay_of
from llm_operator.problems import Problem

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.trial")

MOST_REMEMBERED = 4096
NO_APPLY = "failed to create typed patch object"
"""How kube-apiserver 1.36 begins what it says, with 500, of a body that no apply takes, however often it is sent."""


class Trials:
    """Dry runs of what carries an overlay; what was accepted is not asked again."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._accepted: dict[str, None] = {}

    async def refusal(self, key: Key, resource: LLMDeployment, bodies: Iterable[JSON]) -> Problem | None:
        """Why the API server would refuse one of the bodies for its overlay; None if it takes them all.

        A Deployment is accepted whose pods are not: by Pod Security, say. So the pod is tried too.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        for body, child, overlay in _with_overlay(resource, bodies):
            name = hashlib.sha256(compact_json([key, body]).encode()).hexdigest()
            if name in self._accepted:
                continue
            message = await self._tried(body, child, overlay)
            if message is not None:
                return Problem("PodTemplateRefused", message, "Error")
            if len(self._accepted) >= MOST_REMEMBERED:
                self._accepted.pop(next(iter(self._accepted)))
            self._accepted[name] = None
        return None

    async def _tried(self, body: JSON, child: OverlayChild, overlay: JSON) -> str | None:
        field, template = FIELDS[child], body["spec"]["template"]
        try:
            trial = await ownership.rehearsal(self._client, body)
        except ForeignError:
            return None  # the write itself says whose it is
        if trial is None:
            return None
        try:
            await trial()
        except ApiError as error:
            if error.status == 409:
                raise
            if _of_template(error):
                return _told(field, in_words_of_overlay(error.message, field, overlay, template))
            return None
        try:
            await self._client.create(_pod_of(body), dry_run=True)
        except ApiError as error:
            if _of_template(error) and not _of_other_pods(error):
                words = in_words_of_overlay(error.message, field, overlay, template, of_pod=True)
                return _told(field, words)
        return None


def _with_overlay(resource: LLMDeployment, bodies: Iterable[JSON]) -> Iterator[tuple[JSON, OverlayChild, JSON]]:
    for body in bodies:
        child = _child_of(body)
        overlay = overlay_of(resource.spec, child) if child is not None else None
        if child is not None and overlay:
            yield body, child, overlay


def _child_of(body: JSON) -> OverlayChild | None:
    if body["kind"] in WORKLOAD_KINDS:
        return "chat" if LABEL_CHAT in body["metadata"]["labels"] else "engine"
    return "tool" if body["kind"] == "Job" else None


def _pod_of(body: JSON) -> JSON:
    template, meta = body["spec"]["template"], body["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "namespace": meta["namespace"], "name": meta["name"]},
        "spec": template["spec"],
    }


def _of_template(error: ApiError) -> bool:
    """Whether the refusal is about what was sent; raised again where the server failed or asks to wait.

    Raises:
        ApiError: 429 or a fault of the server.
    """
    if NO_APPLY in error.message:
        return True
    if error.status == 429 or error.status >= 500:
        raise error
    return error.status in (400, 403, 422)


def _of_other_pods(error: ApiError) -> bool:
    """Whether the pod was refused for a reason that may end: a quota, a missing account, the operator's own rights."""
    passing = ("exceeded quota", "cannot create resource", "error looking up service account")
    if any(text in error.message for text in passing):
        log.info("the pod could not be tried: %s", error)
        return True
    return error.status == 409


def _told(field: str, message: str) -> str:
    prefix = "" if f"{field}." in message else f"{field}: "
    return f"{prefix}{message}; nothing was changed"
