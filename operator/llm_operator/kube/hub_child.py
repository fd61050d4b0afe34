"""The process that reads from the hub: `python -m llm_operator.kube.hub_child`.

What a stranger published is parsed here, so a file that takes too much memory or time ends this process and nothing
else. It answers each line of its standard input with one line, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from huggingface_hub import get_session
from pydantic_core import to_json

from llm_operator.facts import Fact, Known, Unknowable
from llm_operator.foreign import read_object
from llm_operator.kube.hub_answer import ANSWER_BYTES, READY, Answer
from llm_operator.kube.hub_files import fetch_facts
from llm_operator.reconcile.model_facts import ModelFacts

MEMORY_BYTES = 128 << 20
"""Beside what the idle process has, about 40 MiB: the largest real index takes 100 MiB."""
KEPT_BYTES = 8 << 20
"""A process that has grown by more is not asked again."""
ALARM_SECONDS = 30
"""A question that takes so long ends the process; who asked has stopped waiting."""
LINE_BYTES = 64 << 10
MESSAGE_CHARACTERS = 1_000


def size() -> int:
    """Bytes of this process's address space, which its limit counts."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limit(most: int) -> None:
    """Let this process take so many bytes of memory, write no file and leave no core."""
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        # If the container's memory ends all the same, this is the process that goes.
        Path("/proc/self/oom_score_adj").write_text("1000")


def told(fact: Fact[ModelFacts], last: bool) -> bytes:
    """The line that contains a fact, of at most ANSWER_BYTES."""
    if not isinstance(fact, Known):
        # Half a surrogate pair, which JSON can spell, is in no encoding.
        message = fact.message[:MESSAGE_CHARACTERS].encode(errors="replace").decode()
        fact = replace(fact, message=message)
    line = to_json(replace(Answer.of(fact), last=last))
    if len(line) < ANSWER_BYTES:
        return line + b"\n"
    text = "config.json describes a model with more kinds of tensors than any model has"
    return told(Unknowable("ModelUnsupported", text), last)


def main() -> None:
    """Answer until no one asks any longer."""
    # Standard output is for answers alone: whatever a library prints goes to standard error.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Warnings quote what the hub sent.
    warnings.simplefilter("ignore")
    logging.disable()
    get_session()
    gc.freeze()
    idle = size()
    limit(idle + MEMORY_BYTES)
    out.write(READY)
    out.flush()
    for question in iter(lambda: sys.stdin.buffer.readline(LINE_BYTES), b""):
        signal.alarm(ALARM_SECONDS)
        asked = read_object(question)
        fact = fetch_facts(str(asked.get("repository")), asked.get("revision") or None)
        out.write(told(fact, last=size() > idle + KEPT_BYTES))
        out.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main()
