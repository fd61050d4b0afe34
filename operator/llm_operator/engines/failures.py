"""Why an engine died: from its exit code and its last log lines to one reason, one message and one remedy. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_operator.engines.signatures import SIGNATURES, Signature

MOST_QUOTED = 300


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What ended an engine.

    Attributes:
        reason: CamelCase word for a condition's reason.
        message: what happened, with the engine's own words.
        remedy: what to do; empty when nothing better than the message is known.
    """

    reason: str
    message: str
    remedy: str


# Signal, its exit code in a shell, and what it tells.
_SIGNALS: dict[int, Diagnosis] = {
    6: Diagnosis("EngineAborted", "the engine aborted", "kubectl logs --previous shows what it checked"),
    7: Diagnosis("SharedMemoryTooSmall", "a bus error, as from a full /dev/shm", "raise sharedMemory"),
    9: Diagnosis(
        "EngineKilled",
        "the engine was killed",
        "by the node for its memory, or by the kubelet after the startup or grace period: kubectl describe pod tells",
    ),
    11: Diagnosis("EngineCrashed", "a segmentation fault", "try another engine.version or image"),
    15: Diagnosis("EngineTerminated", "the engine was told to stop", ""),
}

_PREFIX = re.compile(r"^\((?:APIServer|EngineCore|Worker)[^)]*\) ?")
_NOISE = re.compile(
    r"""^\s*$ | ^[\s^~]+$ | ^\s*File\s" | ^\s*raise\s | ^\s*For\ further\ information\ visit
    | ^\*\*\*\ stacktrace | ^\s*\[\s*\d+\]\s | ^\[TM\]\[(?:INFO|DEBUG|WARN)\] | ^INFO: | ^HINT: | ^usage: | ^Traceback
    | ^Loading:""",
    re.VERBOSE,
)
_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b|\[TM\]\[FATAL\]|.*\berror: )")


def diagnose(engine: str, exit_code: int, signal: int | None, text: str) -> Diagnosis:
    """The reason behind an engine's end.

    Args:
        engine: LMDeploy or VLLM.
        exit_code: the container's exit code; above 128, or negative, it stands for a signal.
        signal: the container's signal where the kubelet reports one.
        text: the last lines of its log (a termination message holds at most 2048 bytes of at most 80 lines).
    """
    found = known_failure(engine, text)
    if found is not None:
        return found
    quoted = last_words(text)
    said = f"; its last words: {quoted}" if quoted else "; it said nothing"
    number = signal or (exit_code - 128 if exit_code > 128 else -exit_code if exit_code < 0 else 0)
    by_signal = _SIGNALS.get(number)
    if by_signal is not None:
        return Diagnosis(by_signal.reason, by_signal.message + said, by_signal.remedy)
    if exit_code == 2 and quoted:  # Python's own exit code for a command line that argparse refuses
        return Diagnosis("InvalidArgument", f"the engine refused its command line: {quoted}", "check engine.extraArgs")
    if exit_code == 0:
        return Diagnosis("EngineExited", f"the engine ended by itself{said}", "")
    return Diagnosis("EngineFailed", f"the engine failed{said}", "kubectl logs --previous shows more")


def known_failure(engine: str, text: str) -> Diagnosis | None:
    """The known failure whose signature is in the text; None for everything else, also for a healthy log."""
    for signature in SIGNATURES:
        if signature.engine in (None, engine):
            match = signature.pattern.search(text)
            if match is not None:
                return _said(signature, match)
    return None


def _said(signature: Signature, match: re.Match[str]) -> Diagnosis:
    groups = [_short(group) for group in match.groups() if group is not None]
    line = match.string[match.string.rfind("\n", 0, match.start()) + 1 :].split("\n", 1)[0]
    quoted = _short(_PREFIX.sub("", line).strip())
    message = signature.message.format(*groups, *[""] * 2)
    return Diagnosis(signature.reason, f'{message} ("{quoted}")', signature.remedy.format(*groups, *[""] * 2))


def last_words(text: str) -> str:
    """The last line that tells something: an error if there is one, else the last that is no frame or decoration."""
    lines = [_PREFIX.sub("", line).rstrip() for line in text.splitlines()]
    telling = [line for line in lines if not _NOISE.match(line)]
    errors = [line for line in telling if _ERROR.match(line)]
    return _short((errors or telling or [""])[-1].strip())


def _short(text: str) -> str:
    return text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED - 3]}..."
