"""A live PersistentVolumeClaim, reduced to what is decided on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.live.heard import Heard


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """A PersistentVolumeClaim, reduced to what a Job needs to know.

    Attributes:
        name: its name.
        uid: its identity; owner of the Jobs that fill it. Empty if claims may not be read.
        single_node: ReadWriteOnce only: pods that mount it must share a node.
        managed: the operator made it, by its label.
        labelled: its label allows the operator to keep models on it.
        deleting: it goes away, and its name is free after that.
        owner_uid: uid of the object that it goes with; None: it stays.
        owner: kind and name of that object; empty if there is none.
        bound: it has a volume.
        lost: it had one, which is gone.
        size: storage that it requests; empty: not known.
        storage_class: its StorageClass; None: it names none, and there was no default one; empty: it is to have none.
        heard: what Kubernetes' controllers said of it in Events; None: they were not read yet.
    """

    name: str
    uid: str
    single_node: bool
    managed: bool = False
    labelled: bool = False
    deleting: bool = False
    owner_uid: str | None = None
    owner: str = ""
    bound: bool = True
    lost: bool = False
    size: str = ""
    storage_class: str | None = None
    heard: Heard | None = None

    @property
    def cache(self) -> bool:
        """Whether models may be kept on it."""
        return self.managed or self.labelled
