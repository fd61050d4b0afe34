"""The lines of a log that may say why an engine died, and how far it had come. Pure, and bounded in time.

A log echoes settings, warns of what does no harm and quotes its own source in tracebacks. None of these decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from llm_operator.engines.log_form import Stage
from llm_operator.engines.registry import ENGINES

MOST_CHARACTERS = 8 << 10
"""Of a log's end: as much is read of a container's log, and a termination message holds half of it."""
MOST_OF_A_LINE = 1000

# Colors, what cannot be printed, and the time that a wrapper of the engine puts before each line.
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]"
    r"|^\[?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)\]? (?!- )",
    re.MULTILINE,
)
# Of Ray's processes, and of engines that name theirs alike; and of torch's ranks. A process that passes on what its own
# processes say has its name before theirs.
_PROCESS = re.compile(
    r"^(?:(?:\([\w.:\-]+(?: [\w=]+)* (?:pid|ip|rank)=[^)]{1,60}\)|\(raylet\)|\[rank\d+\]:(?!\[)) ?){1,3}"
)
# Ray's own processes: [time level pid thread] (raylet) file:line: text.
_RAY = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ([A-Z]) \d+ \d+\] (?:\(\w+\) ?)?")
# Python's logging, as LMDeploy 0.4 to 0.18 forms it (lmdeploy/utils.py, _ColorfulFormatter; the place is missing before
# 0.5), FlashInfer without a name, and Ray with the place before two dashes.
_LOGGING = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+(?: - (?:[\w.]+ - )?|\s+)(?:\S*?\b)?(DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r"\S* (?:- |\S+:\d+ -- )"
    r"(?:[\w.]+:\d+ - )?"
)
_HARMLESS = re.compile(
    r"""^(?: (?:INFO|WARNING|HINT|DEBUG|usage|Loading|note):  # uvicorn, progress bars, argparse
    | \S+\.py:\d+:\ \w*Warning:                               # Python's warnings
    | \[(?:rank\d+\]:\[)?[WI]\d{3,4}\ | [WI]\d{4}\ \d\d:     # warnings of torch and of glog
    | [\w.-]*(?:Namespace|Config|EngineArgs)\(                # settings
    | \[(?!Errno\ |[\w.]{1,60}\.(?:cc|cpp|cuh?|h):\d+\]\ |(?:rank\d+\]:\[)?[EF]\d*\ |PG\ )  # not errors of C++
    | [{"']                                                   # lists and JSON: settings
    | (?:raise|return|if|elif|else|assert|def|class|import|from|with|for|while|self|try|except|super|await)\b[ (:.]
    | File\ " | Traceback\ | \*\*\*\ stacktrace | frame\ \# | The\ above\ exception | During\ handling
    | .{0,80}\bNCCL\ INFO\b | .{0,80}\bras/\S+\ NCCL\ WARN\b  # of NCCL and of its monitor
    | \S{1,60}:\ [Ww]arning:          # plugins and drivers of networks that are not there
    | .{0,900}\bpotential\ root\ causes\b  # Ray's guesses about any process that ended, memory among them
    | .{0,900}\b(?:[Rr]etrying|[Ff]alling\ back|[Tt]rying\ to\ resume)\b
    )""",
    re.VERBOSE,
)
# Lines that begin with blanks are frames and source, but for the texts of C++ exceptions and of pydantic.
_INDENTED = re.compile(r"^\s+(what\(\): .*|(?:Value error|Assertion failed), .*)$")
# Python's exceptions by their name, or by the module before it.
_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b|(?:[a-z_]\w*\.){1,9}[A-Z]\w*: |what\(\):|.*\berror: )"
)
# A progress bar ends its line only at 100 %: what is said before that follows it on the same line.
_LINE = re.compile(r"\r|(?<=it/s\])(?=\S)|(?<=s/it\])(?=\S)")
_DECORATION = re.compile(r"^[\W_]*$")
# Of a traceback.
_FRAME = re.compile(r'^ *File "([^"\n]{1,400})", line \d{1,7}, in ([\w<>.]{1,100})$')
_BARE_KEY = re.compile(r"KeyError: '(\w{1,60})'")

# uvicorn's lines, and those of torch and glog.
_BEGINS = re.compile(
    r"^(?:\[(?:rank\d+\]:\[)?(?=[IWEF]\d{3,4} ))?(DEBUG|INFO|WARNING|ERROR|CRITICAL|[IWEF])(?:: |\d{3,4} )"
)
_LEVELS: dict[str, Literal["debug", "info", "warning", "error"]] = {
    **{"D": "debug", "I": "info", "W": "warning", "E": "error", "C": "error", "F": "error"}
}

# The server is uvicorn's with every engine, and its API OpenAI's.
_SERVING: tuple[Stage, re.Pattern[str]] = (
    "Serving",
    re.compile(r"Application startup complete|Uvicorn running on|\"POST /v1/"),
)


@dataclass(frozen=True, slots=True)
class Log:
    """The end of a log, cleaned.

    Attributes:
        deciding: lines that may say why, oldest first.
        errors: those of them that are errors by their form.
        raised: those of them that a traceback ends with, each with its frames `/path/of/module.py:function`, of which
            the deepest is last.
        last: the last line with information; empty if none does.
        end: the log's last line that is not decoration.
        stage: how far the engine had come; None if the log does not say.
    """

    deciding: tuple[str, ...]
    errors: tuple[str, ...]
    raised: tuple[tuple[str, tuple[str, ...]], ...]
    last: str
    end: str
    stage: Stage | None


def read_log(text: str) -> Log:
    """Take the end of a log apart; a log of any content costs a few milliseconds."""
    cleaned = _CONTROL.sub("", text[-MOST_CHARACTERS:])
    lines = [line[:MOST_OF_A_LINE].rstrip() for part in cleaned.splitlines() for line in _LINE.split(part)]
    deciding = _last([_asserted(said, lines, place) for place, line in enumerate(lines) if (said := _said(line))])
    errors = [line for line in deciding if _ERROR.match(line)]
    whole = [line.strip() for line in lines if not _DECORATION.match(line)] or [""]
    lasting = errors or deciding or whole
    raised = tuple(_raised(lines))
    return Log(tuple(deciding), tuple(errors), raised, lasting[-1], whole[-1], _stage("\n".join(lines)))


def _last(lines: list[str]) -> list[str]:
    """The last of the lines, of no more than MOST_CHARACTERS: sources of errors make them longer than the log."""
    room = MOST_CHARACTERS
    for place in range(len(lines) - 1, -1, -1):
        room -= len(lines[place])
        if room < 0:
            return lines[place + 1 :]
    return lines


def level_of(line: str) -> Literal["debug", "info", "warning", "error"] | None:
    """The level of a line of an engine's log; None: the line has none, as in a traceback."""
    bare = _PROCESS.sub("", _CONTROL.sub("", line[:MOST_OF_A_LINE]))
    for prefix in (*_prefixes(), _BEGINS):
        found = prefix.match(bare)
        if found:
            return _LEVELS[found[1][0]]
    return "error" if bare.startswith("Traceback ") or _ERROR.match(bare) else None


def _raised(lines: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The errors that tracebacks end with; the names of processes separate what several print at the same time."""
    open_frames: dict[str, list[str]] = {}
    for place, line in enumerate(lines):
        if not open_frames and 'File "' not in line:
            continue
        process = _PROCESS.match(line)
        name = process[0] if process is not None else ""
        bare = _bare(line)
        frame = _FRAME.match(bare) if level_of(line) in (None, "error") else None
        if frame is not None:
            open_frames.setdefault(name, []).append(f"/{frame[1].removeprefix('/')}:{frame[2]}")
        elif bare.startswith("Traceback "):
            open_frames[name] = []
        elif open_frames.get(name) and (said := _said(line)):
            yield _asserted(said, lines, place), tuple(open_frames.pop(name))


def _asserted(said: str, lines: list[str], place: int) -> str:
    """Add the line of source to an error that has no text; other lines of source do not count.

    These are a failed assertion without a text, and a key that the source looks up by its name.
    """
    key = _BARE_KEY.fullmatch(said)
    if said != "AssertionError" and key is None:
        return said
    before = (_bare(line).strip() for line in reversed(lines[:place]))
    source = next((line for line in before if not _DECORATION.match(line)), "")
    about = source.startswith("assert ") if key is None else re.search(rf"\[['\"]{key[1]}['\"]\]", source)
    return f"{said}: {source}" if about else said


def _prefixes() -> Iterator[re.Pattern[str]]:
    """How a line with a level may begin, whichever engine prints it."""
    yield _RAY
    for engine in ENGINES.values():
        yield from engine.log.levels
    yield _LOGGING


def _harmless() -> Iterator[re.Pattern[str]]:
    yield _HARMLESS
    yield from (engine.log.harmless for engine in ENGINES.values() if engine.log.harmless is not None)


def _bare(line: str) -> str:
    """The line without prefixes, whatever its level."""
    line = _PROCESS.sub("", line)
    for prefix in _prefixes():
        line = prefix.sub("", line)
    return line


def _said(line: str) -> str:
    """The line without prefixes; empty if it cannot be a cause."""
    line = _PROCESS.sub("", line)
    for prefix in _prefixes():
        match = prefix.match(line)
        if match is not None:
            if match[1] not in ("ERROR", "CRITICAL", "FATAL", "E", "F"):
                return ""
            line = line[match.end() :]
            break
    for engine in ENGINES.values():
        quoted = engine.log.quoting.match(line) if engine.log.quoting is not None else None
        if quoted is not None:
            return quoted[1]
    indented = _INDENTED.match(line)
    if indented is not None:
        return indented[1]
    if not line or line[0].isspace() or _DECORATION.match(line) or any(one.match(line) for one in _harmless()):
        return ""
    return line


def _stage(text: str) -> Stage | None:
    """The furthest stage that the log shows: an engine never goes back, and a prompt may hold the words of any."""
    markers = (_SERVING, *(marker for engine in ENGINES.values() for marker in engine.log.stages))
    found = {stage for stage, pattern in markers if pattern.search(text)}
    return next((stage for stage in reversed(get_args(Stage)) if stage in found), None)
