"""One record, one line, whatever it quotes; and nothing that is printed beside the log."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.telemetry.logs import JsonFormatter, TextFormatter, printable

FORGED = 'qwen\n{"level": "error", "msg": "forged"}\r\x1b[2J\x9b31m\x7f\u2028\u202e\udc80'


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    exc_info = None
    if error:
        try:
            raise ValueError(FORGED)
        except ValueError:
            exc_info = sys.exc_info()
    return logging.LogRecord("llm_operator", logging.INFO, "f.py", 1, message, arguments, exc_info)


@given(st.text())
def test_a_record_is_one_line_of_json_and_says_what_it_was_given(text: str) -> None:
    line = JsonFormatter().format(record("object %s", text))
    assert json.loads(line)["msg"] == f"object {text}"
    assert line.isprintable() or all(character.isprintable() or character > "\x9f" for character in line)
    assert len(line.splitlines()) == 1
    line.encode()


def test_a_name_cannot_forge_a_line_or_move_the_cursor() -> None:
    for line in (JsonFormatter().format(record(FORGED)), TextFormatter().format(record(FORGED))):
        assert len(line.splitlines()) == 1
        assert not {"\x1b", "\x9b", "\x7f", "\r", "\u2028", "\u202e"} & set(line)
        line.encode()


def test_a_traceback_for_people_has_its_own_lines_that_nobody_can_forge() -> None:
    first, *rest = TextFormatter().format(record("failed", error=True)).splitlines()
    assert first.endswith("llm_operator: failed")
    assert rest
    assert all(line.startswith("  | ") for line in rest)


def test_printable_leaves_what_can_be_read() -> None:
    assert printable("Größe 模型 🙂 a\\b") == "Größe 模型 🙂 a\\b"


PROGRAM = """
import threading, warnings
from llm_operator.telemetry import logs
logs.configure("INFO", "json")
warnings.warn("careful")
class Bad:
    def __del__(self):
        raise ValueError("unraisable")
bad = Bad()
del bad
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end\\nof it")
"""


def test_what_python_itself_prints_is_in_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    messages = [json.loads(line)["msg"] for line in done.stderr.splitlines()]
    assert len(messages) == 4, messages
    for text, message in zip(("careful", "unraisable", "division by zero", "the end\nof it"), messages, strict=True):
        assert text in message


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [(["--all-namespaces"], {"KUBECONFIG": "/nowhere"}, "no cluster to talk to")],
)
def test_an_end_is_one_clear_line(arguments: list[str], environment: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "llm_operator", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert told["level"] == "critical"
    assert said in told["msg"]
