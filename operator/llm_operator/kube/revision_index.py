"""The revisions that the watch reports, by the LLMDeployment that owns them; what one holds only of one per object."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from llm_operator.kube.keys import Key
from llm_operator.live.texts import shrunk
from llm_operator.reconcile.revisions import Revision, revision_from


class RevisionIndex:
    """Revisions by name, within an LLMDeployment's key."""

    def __init__(self) -> None:
        self._revisions: dict[Key, dict[str, Revision]] = {}

    def of(self, key: Key) -> Mapping[str, Revision]:
        """Those of one object."""
        return dict(self._revisions.get(key, {}))

    def entries(self) -> Iterable[tuple[Key, str, str]]:
        """Key, name and resourceVersion of each that is there."""
        every = ((key, one) for key, own in self._revisions.items() for one in own.values() if not one.gone)
        return [(key, one.name, one.resource_version) for key, one in every]

    def version(self, key: Key, name: str) -> str | None:
        """The resourceVersion that is known of one; None if it is not there."""
        found = self._revisions.get(key, {}).get(name)
        return found.resource_version if found is not None and not found.gone else None

    def update(self, key: Key, raw: Mapping[str, Any], *, small: bool = False) -> Revision:
        """Take in a revision, whole or its metadata alone; `small`: what it holds is compressed."""
        own = self._revisions.setdefault(key, {})
        found = revision_from(raw, own.get(raw["metadata"]["name"]))
        if small and found.text is not None:
            found = dataclasses.replace(found, text=shrunk(found.text))
        own[found.name] = found
        return found

    def runs(self, key: Key, name: str) -> None:
        """One of them runs: what the others hold is let go."""
        own = self._revisions.get(key, {})
        for other, one in list(own.items()):
            if other != name and one.gone:
                del own[other]
            elif other != name and one.text is not None:
                own[other] = dataclasses.replace(one, text=None)

    def forget(self, key: Key, name: str, *, running: str, owner_uid: str | None) -> None:
        """Drop a revision that is gone.

        What the one that runs held is kept, so that it can be made again as it was.

        Args:
            key: of its object.
            name: of the revision.
            running: name of the one that runs.
            owner_uid: of the object; None if that is gone too.
        """
        own = self._revisions.get(key, {})
        found = own.pop(name, None)
        if found is not None and found.text is not None and name == running and found.owner_uid == owner_uid:
            own[name] = dataclasses.replace(found, gone=True)
        if not own:
            self._revisions.pop(key, None)

    def object_gone(self, key: Key) -> None:
        """No revision of it is made again."""
        own = self._revisions.get(key, {})
        for name in [one.name for one in own.values() if one.gone]:
            del own[name]
        if not own:
            self._revisions.pop(key, None)
