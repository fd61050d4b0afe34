"""Why an engine died: from its exit code and its last log lines to one reason, one message and one remedy. Pure."""

from __future__ import annotations

import re

from llm_operator.engines.death import Log, read_log
from llm_operator.engines.log_form import LogForm
from llm_operator.engines.part import part_of
from llm_operator.engines.parts import PARTS
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.signature import CAUSE, CODE, REFUSAL, WRAPPER, Signature
from llm_operator.engines.signatures import COMMON
from llm_operator.engines.signatures_model import REFUSED_SETTING
from llm_operator.engines.table import release
from llm_operator.problems import Problem

MOST_QUOTED = 300
GENERIC = frozenset(
    {
        "EngineProcessDied",
        "EngineDied",
        "EngineCodeFailed",
        "EngineFailed",
        "EngineExited",
        "EngineAborted",
        "EngineKilled",
    }
)
"""Reasons that a longer piece of the log may better."""
CUT_BYTES, CUT_LINES = 2000, 80
"""The kubelet keeps 2,048 bytes and 80 lines of a log's end as the termination message: one as long was cut."""


def _death(reason: str, message: str, remedy: str) -> Problem:
    """What ended an engine; it may come up again."""
    return Problem(reason, message, "Warning", remedy)


SHOWN = "kubectl logs --previous shows where that error comes from"
# Signal and what it says.
_SIGNALS: dict[int, Problem] = {
    4: _death(
        "EngineCrashed",
        "the CPU does not know an instruction of the image",
        "use another engine.image, or another node in nodeSelector",
    ),
    6: _death("EngineAborted", "the engine aborted", "see in kubectl logs --previous what it checked"),
    7: _death("SharedMemoryTooSmall", "a bus error, as from a full /dev/shm", "raise sharedMemory"),
    9: _death(
        "EngineKilled",
        "the engine was killed",
        "see in kubectl describe pod who killed it: raise resources.limits.memory for the node, startupTimeoutSeconds "
        "for the kubelet",
    ),
    11: _death("EngineCrashed", "a segmentation fault", "use another engine.version or engine.image"),
    15: _death("EngineTerminated", "the engine ended after SIGTERM", "see in kubectl describe pod who ended it"),
}
# Of NCCL in every engine, with NCCL_DEBUG=INFO.
_JOINING = re.compile(r"\bNCCL INFO\b")


def diagnose(engine: str, exit_code: int, signal: int | None, text: str, version: str | None = None) -> Problem:
    """The reason behind an engine's end.

    Args:
        engine: name of the engine.
        exit_code: the container's exit code; above 128, or negative, it stands for a signal.
        signal: the container's signal where the kubelet reports one.
        text: the end of its log (a termination message holds at most 2048 bytes of at most 80 lines).
        version: the engine's; None: every signature is tried.

    Raises:
        ValueError: the version is not one, see release().
    """
    log = read_log(text)
    number = signal or (exit_code - 128 if 128 < exit_code < 192 else -exit_code if exit_code < 0 else 0)
    found = _known(engine, log, version)
    if found is not None and found[0].rank < CODE:
        by_part = _by_part(engine, log, found[0]) if found[0].rank == REFUSAL else None
        return by_part or _said(*found, log)
    by_form = _by_form(ENGINES[engine].log, log, text, number) if engine in ENGINES else None
    if by_form is not None:
        return by_form
    by_part = _by_part(engine, log, found[0] if found is not None else None) if number not in (9, 15) else None
    if by_part is not None:
        return by_part
    if found is None:
        return _by_exit(exit_code, number, log)
    said, cause = _said(*found, log), _before(engine, log)
    if found[0].rank < WRAPPER or not cause:
        return said
    return _death(said.reason, f"{found[0].message}: {_short(cause)}", SHOWN)


def is_more_in_the_log(
    engine: str, exit_code: int, signal: int | None, message: str, version: str | None = None
) -> bool:
    """Whether the container's log may tell more of its death than the termination message, which is its end.

    Args:
        engine: name of the engine.
        exit_code: see diagnose().
        signal: see diagnose().
        message: the termination message.
        version: see diagnose().

    Raises:
        ValueError: the version is not one, see release().
    """
    if not message.strip() or diagnose(engine, exit_code, signal, message, version).reason in GENERIC:
        return True
    found = _known(engine, read_log(message), version)
    if found is not None and found[0].rank == CAUSE:
        return False
    return len(message.encode()) >= CUT_BYTES or message.count("\n") + 1 >= CUT_LINES


def _by_form(form: LogForm, log: Log, text: str, number: int) -> Problem | None:
    """What the engine's log says beside its errors: the end of a process of it, or that its processes wait."""
    # SIGTERM is how the other processes of an engine are ended after one has died.
    said = "\n".join(log.deciding)
    child = [found for found in form.child.findall(said) if found != "-15"] if form.child is not None else []
    by_child = _SIGNALS.get(-int(child[-1])) if child else None
    if by_child is not None:
        message = f"{by_child.message} (a process of it ended with signal {-int(child[-1])})"
        return _death(by_child.reason, message, by_child.remedy)
    if number not in (9, 15):
        return None
    if form.waiting is not None and form.waiting.search(text):
        return _death("StartupHung", "its processes waited for each other until it was killed", form.unlinked)
    if _JOINING.search(log.end) or (form.joining is not None and form.joining.search(log.end)):
        message = f"it was killed while its processes looked for each other. Last log line: {_short(log.end)}"
        return _death("StartupHung", message, f"{form.unlinked}; kubectl describe pod shows who killed it")
    return None


def _by_exit(exit_code: int, number: int, log: Log) -> Problem:
    quoted = _short(log.last)
    said = f". Last log line: {quoted}" if quoted else " and logged no error"
    by_signal = _SIGNALS.get(number)
    if by_signal is not None:
        return _death(by_signal.reason, by_signal.message + said, by_signal.remedy)
    # Python's own exit code for a command line that argparse refuses, which it reads before anything else.
    if exit_code == 2 and quoted and log.stage is None:
        return _death("InvalidArgument", f"the engine refused its command line: {quoted}", "correct engine.extraArgs")
    if exit_code == 0:
        remedy = "see in kubectl logs --previous what it did last: nothing outside ended it"
        return _death("EngineExited", f"the engine ended by itself{said}", remedy)
    return _death("EngineFailed", f"the engine failed{said}", "see the end of its log: kubectl logs --previous")


def known_failure(engine: str, text: str, version: str | None = None) -> Problem | None:
    """The known failure whose signature is in the text; None for everything else, also for a healthy log."""
    log = read_log(text)
    found = _known(engine, log, version)
    return _said(*found, log) if found is not None else None


def signatures() -> tuple[Signature, ...]:
    """Every signature: those of each engine, then the common ones."""
    return (*(own for engine in ENGINES.values() for own in engine.signatures), *COMMON)


def _known(engine: str, log: Log, version: str | None) -> tuple[Signature, re.Match[str]] | None:
    """The best signature: a cause before a symptom and so on, see Signature.rank; of these the one in the last line."""
    text = "\n".join(log.deciding)
    best: tuple[tuple[int, int], Signature, re.Match[str]] | None = None
    own = ENGINES[engine].signatures if engine in ENGINES else ()
    for signature in (*own, *COMMON):
        # What a server says of a request that it refuses ends the request and not the engine.
        if not _of_version(signature, version) or (signature.starting and log.stage == "Serving"):
            continue
        match = None
        for match in signature.pattern.finditer(text):  # noqa: B007 - the last one
            pass
        if match is None:
            continue
        line = text.rfind("\n", 0, match.start())
        if best is None or (signature.rank, -line) < best[0]:
            best = ((signature.rank, -line), signature, match)
    return best[1:] if best is not None else None


def _of_version(signature: Signature, version: str | None) -> bool:
    if version is None:
        return True
    asked = release(version)
    newer = signature.since and asked < release(signature.since)
    return not newer and not (signature.until and asked >= release(signature.until))


def _by_part(engine: str, log: Log, found: Signature | None) -> Problem | None:
    """The part of the engine whose code raised the last error; None: no traceback shows it, or it is of a request.

    An engine that serves prints tracebacks of requests too: one counts there only if the log says that the engine died.
    """
    serving = log.stage == "Serving"
    if serving and not any(
        one.pattern.search(line) for one in _wrappers(engine) if not one.starting for line in log.deciding
    ):
        return None
    own = ENGINES[engine].log.parts if engine in ENGINES else ()
    parts = [one for one in (*own, *PARTS) if not (serving and one.starting)]
    error = _before(engine, log)
    frames = next((frames for said, frames in reversed(log.raised) if said.strip() == error), ())
    by_words = found is None or found.message != REFUSED_SETTING
    part = part_of(parts, error, frames, by_words=by_words) if error else None
    if part is None or (found is not None and found.reason == part.reason):
        return None
    return _death(part.reason, f'{part.message} ("{_short(error)}")', part.remedy)


def _wrappers(engine: str) -> list[Signature]:
    own = ENGINES[engine].signatures if engine in ENGINES else ()
    return [signature for signature in (*own, *COMMON) if signature.rank == WRAPPER]


def _before(engine: str, log: Log) -> str:
    """The last error that says more than that another process died; empty if the log has none."""
    wrappers = _wrappers(engine)
    errors = (line.strip() for line in reversed(log.errors))
    return next((line for line in errors if not any(one.pattern.search(line) for one in wrappers)), "")


def _said(signature: Signature, match: re.Match[str], log: Log) -> Problem:
    groups = [_short(group) for group in match.groups() if group is not None]
    line = match.string[match.string.rfind("\n", 0, match.start()) + 1 :].split("\n", 1)[0]
    message = signature.message.format(*groups, *[""] * 2)
    remedy = signature.remedy if log.stage is None else signature.at.get(log.stage, signature.remedy)
    return _death(signature.reason, f'{message} ("{_short(line.strip())}")', remedy.format(*groups, *[""] * 2))


def last_words(text: str) -> str:
    """The last line with information: an error if there is one, else the last that is not a frame or decoration."""
    return _short(read_log(text).last.strip())


def _short(text: str) -> str:
    return text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED - 3]}..."
