"""A live Job of the model tools, reduced to what is decided on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from llm_operator.api import API_VERSION, KIND
from llm_operator.foreign import read_object, values_in
from llm_operator.live.children import UID_CHARACTERS
from llm_operator.live.heard import Heard
from llm_operator.live.pods import ContainerEnd, Pod
from llm_operator.manifests.common import compact_json
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.pipeline.artifacts import (
    ANNOTATION_DAMAGED,
    ANNOTATION_JOB_TEMPLATE,
    ANNOTATION_LEFTOVER,
    ANNOTATION_MADE_FOR,
    ANNOTATION_REMOVE,
    ANNOTATION_RESULT,
    ANNOTATION_SOURCE,
    ANNOTATION_UNUSED_SINCE,
    ANNOTATION_VERIFIED,
    LABEL_ARTIFACT,
    removal_name,
    verification_name,
)
from llm_operator.pipeline.result import (
    MOST_VALUES,
    TEXT_LIMIT,
    Leftover,
    Result,
    leftover_from,
    parse_result,
    safe_directory,
)

JSON = dict[str, Any]

JobPhase = Literal["Active", "Complete", "Failed"]

RECORD_LIMIT = 8 << 10
"""Characters of a record on a Job; a result has at most the 4,096 bytes of a termination message."""

NAME_LIMIT = 253
"""Characters of an object's name."""

MOST_OWNERS = 64
"""Of one Job: the object that it was created for is the first."""

ENDED = ("Succeeded", "Failed")
"""Phases of a pod that does nothing any longer."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A live Job."""

    name: str
    uid: str
    resource_version: str
    stage: str
    digest: str
    phase: JobPhase
    failure: str
    """Why the Job controller gave up; empty while it did not."""
    finished_at: str | None
    """RFC 3339; None while it runs."""
    deleting: bool
    told: str | None
    """Its result as text, if it was recorded."""
    about: Mapping[str, Any]
    """What it was made from."""
    unused_since: str | None
    """RFC 3339; since when no object requests what it made."""
    to_be_removed: bool
    claim: str | None
    """Claim that owns it."""
    claim_uid: str | None
    owners: frozenset[str] = frozenset()
    """uids of the LLMDeployments that own it."""
    foreign: bool = False
    """Something else than an LLMDeployment controls it, such as a CronJob, and so owns it, whatever its name is."""
    suspended: bool = False
    """Somebody holds it back, such as a queue for GPUs."""
    recorded_leftover: Leftover | None = None
    """What its annotation says of earlier pods and Jobs."""
    placement: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Of its pod template: what decides on which nodes, and with which pull secrets, it can run."""
    pods: tuple[Pod, ...] = ()
    verified_at: str | None = None
    """RFC 3339; when what it made was last compared with its hashes."""
    damaged: str = ""
    """What differed then; empty: nothing did."""
    template_digest: str = ""
    """Of the pod template that it was made with; empty: an older operator made it."""
    made_for: str = ""
    """Name of the object whose placement it has; empty: not known."""
    refused: str = ""
    """Why the API server refuses its pods; empty while it has one, or that is not known."""
    heard: Heard | None = None
    """What the Job controller said of it in Events; None: they were not read yet."""
    shared_with: str = ""
    """Name of another object that it was made for and that still waits for it; empty: it may be made anew for this one.
    """

    @property
    def begun(self) -> bool:
        """Whether a pod of it works now, or may: it is not stopped then. What ended ones have left is not lost."""
        return any(
            pod.running or (pod.end is None and pod.phase not in ("Pending", *ENDED))
            for pod in self.pods
            if not pod.deleting
        )

    def result(self) -> Result | None:
        """Its result, from its record or from its pods; None while nothing is known."""
        text = self.told if self.told is not None else last_words(self.pods)
        return parse_result(text) if text is not None else None

    @property
    def settled(self) -> bool:
        """It has ended, and so have its pods: all words are said."""
        running = any(pod.end is None and pod.phase not in ENDED for pod in self.pods)
        return self.phase == "Complete" or (self.finished_at is not None and not running)

    @property
    def abandoned(self) -> bool:
        """Abandoned: its last object left before it finished. A new request gets a new Job."""
        return self.phase != "Complete" and self.unused_since is not None

    def leftover(self) -> Leftover | None:
        """The partial output of it or of an earlier Job of its name; None: none is known, or it is complete."""
        result = self.result()
        if self.phase == "Complete" and (result is None or result.ok):
            return None
        if result is not None and not result.ok and result.directory:
            return Leftover(result.directory, result.bytes)
        return self.recorded_leftover

    def directory(self) -> str:
        """Directory on the claim that it made, or began to make; empty while that is not known."""
        leftover = self.leftover()
        if leftover is not None:
            return leftover.directory
        result = self.result()
        return result.directory if result is not None and result.ok else ""

    def may_fill(self, directory: str) -> bool:
        """Whether it makes this directory, or might: which commit a branch stands for is known only at its end."""
        known = self.directory()
        if known or self.stage != "fetch" or self.phase != "Active":
            return known == directory
        folder, _, commit = directory.rpartition("/")
        repository = str(self.about.get("repository", "")).replace("/", "--")
        return folder.endswith(f"--{repository}") and "--" not in commit

    def removal(self) -> str | None:
        """Name of the Job that removes what it made or left; the same for all that made or left the same.

        None: there is nothing, or the Job is still at work.
        """
        leftover = self.leftover()
        path = leftover.path if leftover is not None else self.directory()
        if self.phase == "Active" or not path or self.claim is None:
            return None
        return removal_name(self.claim, path)

    def verification(self) -> str | None:
        """Name of the Job that compares what it made with its hashes; None: there is nothing, or it is not done."""
        if self.phase != "Complete" or self.stage in ("remove", "verify") or self.claim is None or not self.directory():
            return None
        return verification_name(self.claim, self.directory())

    def to_verify(self) -> str:
        """The directory that a Job of the stage verify reads, if its name, which is a hash of that, says so, too."""
        directory = safe_directory(self.about)
        named = directory and self.claim is not None and verification_name(self.claim, directory) == self.name
        return directory if named and self.stage == "verify" else ""


CLAIM = ("v1", "PersistentVolumeClaim")

OWNER = (API_VERSION, KIND)

PLACEMENT = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")


def job_from(raw: Mapping[str, Any]) -> JobView:
    """Reduce a live Job; its pods come from elsewhere."""
    meta = raw["metadata"]
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    status = raw.get("status") or {}
    true = {entry["type"]: entry for entry in status.get("conditions") or [] if entry.get("status") == "True"}
    # FailureTarget comes first, while the last pods still end.
    failed = true.get("Failed") or true.get("FailureTarget")
    done = true.get("Complete")
    end = done or true.get("Failed")
    pod = ((raw.get("spec") or {}).get("template") or {}).get("spec") or {}
    owners = meta.get("ownerReferences") or []
    about = read_object(annotations.get(ANNOTATION_SOURCE), RECORD_LIMIT)
    owner: JSON = next((one for one in owners if (one.get("apiVersion"), one.get("kind")) == CLAIM), {})
    return JobView(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        stage=labels.get(LABEL_STAGE, ""),
        digest=labels.get(LABEL_ARTIFACT, ""),
        phase="Complete" if done else "Failed" if failed else "Active",
        failure=f"{failed.get('reason', '')}: {failed.get('message', '')}"[:TEXT_LIMIT] if failed else "",
        finished_at=end.get("lastTransitionTime") if end else None,
        deleting="deletionTimestamp" in meta,
        # Only the end, as of a pod's termination message: they are at the end.
        told=told[-RECORD_LIMIT:] if (told := annotations.get(ANNOTATION_RESULT)) is not None else None,
        about=about if values_in(about, MOST_VALUES) < MOST_VALUES else {},
        unused_since=_time(annotations.get(ANNOTATION_UNUSED_SINCE)),
        to_be_removed=annotations.get(ANNOTATION_REMOVE) == "true",
        claim=str(owner["name"])[:NAME_LIMIT] if owner else None,
        claim_uid=str(owner["uid"])[:UID_CHARACTERS] if owner else None,
        owners=frozenset(
            str(one["uid"])[:UID_CHARACTERS]
            for one in owners[:MOST_OWNERS]
            if (one.get("apiVersion"), one.get("kind")) == OWNER
        ),
        foreign=any(one.get("controller") and (one.get("apiVersion"), one.get("kind")) != OWNER for one in owners),
        suspended="Suspended" in true,
        recorded_leftover=leftover_from(read_object(annotations.get(ANNOTATION_LEFTOVER), RECORD_LIMIT)),
        verified_at=_time(annotations.get(ANNOTATION_VERIFIED)),
        damaged=str(annotations.get(ANNOTATION_DAMAGED, ""))[:TEXT_LIMIT],
        placement=_placement(pod),
        template_digest=str(annotations.get(ANNOTATION_JOB_TEMPLATE) or "")[:NAME_LIMIT],
        made_for=str(annotations.get(ANNOTATION_MADE_FOR) or "")[:NAME_LIMIT],
    )


def _placement(pod: Mapping[str, Any]) -> JSON:
    """What decides where a pod runs; empty if it is larger than that of any Job of ours, since all Jobs are kept."""
    found = {name: pod[name] for name in PLACEMENT if name in pod}
    return found if values_in(found, MOST_VALUES) < MOST_VALUES else {}


def last_words(pods: tuple[Pod, ...]) -> str | None:
    """The message of the pod that ended last with one; success before failure."""
    ends = [pod.end for pod in pods if pod.end is not None and not pod.running and pod.end.message]
    good: list[ContainerEnd] = [end for end in ends if end.exit_code == 0]
    chosen = sorted(good or ends, key=lambda end: end.finished_at)
    return chosen[-1].message if chosen else None


def lost_result(job: JobView) -> str:
    """What is recorded of a Job that is complete and whose pod left no words."""
    told = {
        "ok": False,
        "reason": "ResultMissing",
        "message": f"Job {job.name} is complete, but its pod left no result: either the pod was deleted before the "
        "operator read it, or its image is not the model tools'. Compare `kubectl describe job` with the chart's "
        "modelTools.image, and with spec.tools.podTemplate",
        "retry": True,
    }
    return compact_json(told)


def _time(text: str | None) -> str | None:
    """A time with a zone as an annotation holds it; None if it cannot be read, as if it were not there."""
    try:
        return text if text and datetime.fromisoformat(text).tzinfo is not None else None
    except ValueError:
        return None
