"""Writing children without taking what belongs to somebody else.

A name that was never seen is created; if something of that name exists, its controller decides whose it is, never a
conflict of fields: a Service without a selector owns none of the fields that we set. Nothing is written to an object
without the uid that was looked at, so a successor of the same name is not hit.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.manifests.common import LABEL_MANAGED_BY, MANAGER
from llm_operator.manifests.kinds import KINDS
from llm_operator.reconcile.mending import belonging, mend

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.ownership")


class ForeignError(Exception):
    """An object of that name belongs to somebody else; the message is one sentence for a condition."""


async def create(client: ApiClient, body: JSON) -> JSON:
    """Create an object; if there is one that is ours, such as one whose labels were edited away, restore it.

    Raises:
        ForeignError: somebody else's.
        ApiError: refused.
    """
    try:
        return await client.create(body)
    except ApiError as error:
        if error.status != 409 or error.reason != "AlreadyExists":
            raise
    live = await _live(client, body)
    check_ours(body, live)
    # A Job or a claim is what it was made for; most of it could not be changed anyway.
    return live if KINDS[body["kind"]].made_once else await _apply_to(client, body, live)


async def update(client: ApiClient, body: JSON, looked: Callable[[JSON], None] = lambda _: None) -> JSON:
    """Restore an object that was seen; create it if it is gone.

    Args:
        client: of the API server.
        body: what it should be.
        looked: called with the object as it is, if it is ours, before it is written.

    Raises:
        ForeignError: somebody else's.
        ApiError: refused; 409 if it was replaced in the meantime.
    """
    try:
        live = await _live(client, body)
    except ApiError as error:
        if error.status != 404:
            raise
        return await create(client, body)
    check_ours(body, live)
    looked(live)
    return await _apply_to(client, body, live)


async def rehearsal(client: ApiClient, body: JSON) -> Callable[[], Awaitable[JSON]] | None:
    """A dry run of create() or update(), still to be called, for what they would store; None: they store nothing.

    What the creation of a live object set counts as applied from then on. Otherwise the trial would keep fields that
    the write itself gives up, and be refused for a mixture of both.

    Raises:
        ForeignError: somebody else's.
        ApiError: the API server failed. The call raises it too: refused, or 409 if the object has changed meanwhile.
    """
    try:
        live = await _live(client, body)
    except ApiError as error:
        if error.status != 404:
            raise
        return lambda: client.apply(body, force=True, dry_run=True)
    check_ours(body, live)
    if KINDS[body["kind"]].made_once:
        return None

    async def tried() -> JSON:
        operations = mend(live, body)
        if operations:
            return await patch(client, {**live, "kind": body["kind"]}, operations, dry_run=True)
        await _take_over(client, body, live)
        return await client.apply(_of_live(body, live), force=True, dry_run=True)

    return tried


async def _apply_to(client: ApiClient, body: JSON, live: JSON) -> JSON:
    live = await _mended(client, body, live)
    await _take_over(client, body, live)
    return await client.apply(_of_live(body, live), force=True)


async def _mended(client: ApiClient, body: JSON, live: JSON) -> JSON:
    """The object without what others did to it, in one write; as it was if that was refused.

    Then an apply may still be taken, and says why not.
    """
    operations = mend(live, body)
    if not operations:
        return live
    try:
        return await patch(client, {**live, "kind": body["kind"]}, operations)
    except ApiError as error:
        if error.status in (404, 409, 429) or error.status >= 500:
            raise
        log.info("%s %s cannot be mended in one write: %s", body["kind"], body["metadata"]["name"], error)
        return live


def _of_live(body: JSON, live: JSON) -> JSON:
    return {**body, "metadata": {**body["metadata"], "uid": live["metadata"]["uid"]}}


async def _take_over(client: ApiClient, body: JSON, live: JSON) -> None:
    meta = live["metadata"]
    if any(entry for entry in meta.get("managedFields") or () if _is_ours_by_update(entry)):
        # With labels and owners as they should be: by these a policy may tell what the operator may write.
        operations = [*applied_fields(live), *belonging(live, body)]
        await client.patch(body["kind"], meta["namespace"], meta["name"], operations)


async def patch(client: ApiClient, live: JSON, operations: list[JSON], *, dry_run: bool = False) -> JSON:
    """A JSON patch of an object that is ours; the stored object comes back.

    Raises:
        ApiError: refused; 409 if it has changed since it was read.
    """
    meta = live["metadata"]
    return await client.patch(live["kind"], meta["namespace"], meta["name"], operations, dry_run=dry_run)


async def _live(client: ApiClient, body: JSON) -> JSON:
    return await client.get(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])


def check_ours(body: JSON, live: JSON) -> None:
    """Whether what exists is what we would make.

    Ours is what has the owner that our object would have, and what no one else controls. What has no owner by design,
    such as a claim that is to survive its object, is ours by the label that only the operator sets.

    Raises:
        ForeignError: it is somebody else's.
    """
    wanted = {owner["uid"] for owner in body["metadata"].get("ownerReferences") or ()}
    owners = live["metadata"].get("ownerReferences") or []
    labels = live["metadata"].get("labels") or {}
    ours = wanted & {owner.get("uid") for owner in owners} if wanted else labels.get(LABEL_MANAGED_BY) == MANAGER
    if ours and not any(owner.get("controller") and owner.get("uid") not in wanted for owner in owners):
        return
    kind, name = body["kind"], body["metadata"]["name"]
    raise ForeignError(
        f"{kind} {name!r} exists and belongs to {_whose(live)}: rename this object, or remove that {kind}"
    )


def _whose(live: JSON) -> str:
    meta = live["metadata"]
    for owner in meta.get("ownerReferences") or []:
        if owner.get("controller"):
            return f"{str(owner.get('kind'))[:63]} {str(owner.get('name'))[:253]!r}"
    managers = [str(entry.get("manager"))[:128] for entry in meta.get("managedFields") or () if entry.get("manager")]
    return f"somebody else (last written by {managers[-1]})" if managers else "somebody else"


def _is_ours_by_update(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == MANAGER and entry.get("operation") == "Update" and not entry.get("subresource")


def applied_fields(live: JSON) -> list[JSON]:
    """JSON patch after which the fields that were set by the creation count as applied.

    Fields of a POST belong to an Update entry, and a later apply that leaves one out does not remove it. As in
    client-go's csaupgrade, the entry becomes the Apply entry; there is none yet, because nothing was applied before.
    """
    entries = live["metadata"]["managedFields"]
    applied = any(entry.get("manager") == MANAGER and entry.get("operation") == "Apply" for entry in entries)
    kept = [
        {**entry, "operation": "Apply"} if _is_ours_by_update(entry) else entry
        for entry in entries
        # With an Apply entry there already, what the creation set and no apply has repeated is let go.
        if not (applied and _is_ours_by_update(entry))
    ]
    return [
        {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
    ]
