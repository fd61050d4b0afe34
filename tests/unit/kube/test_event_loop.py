"""What the event loop says of connections that end under it, and of faults."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator

import pytest
import uvloop

from llm_operator.kube.event_loop import new_event_loop


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed"),
        ConnectionResetError(104, "Connection reset by peer"),
        ssl.SSLError(1, "application data after close notify"),
    ],
)
def test_the_end_of_a_connection_is_one_line(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    loop = new_event_loop()
    try:
        assert isinstance(loop, uvloop.Loop)
        with caplog.at_level(logging.INFO):
            loop.call_exception_handler({"message": "Fatal error on SSL protocol", "exception": error})
    finally:
        loop.close()
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert "\n" not in record.getMessage()


def test_any_other_error_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    loop = new_event_loop()
    try:
        loop.call_exception_handler({"message": "a fault", "exception": RuntimeError("of ours")})
    finally:
        loop.close()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info


def test_a_watch_that_is_open_at_the_end_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def infinite_watch() -> AsyncIterator[int]:
        yield 1

    watch, error = infinite_watch(), RuntimeError("generator didn't stop after athrow()")
    message = f"an error occurred during closing of asynchronous generator {watch!r}"
    loop = new_event_loop()
    try:
        with caplog.at_level(logging.INFO):
            loop.call_exception_handler({"message": message, "exception": error, "asyncgen": watch})
    finally:
        loop.close()
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.getMessage() == "a watch was still open when the process ended"
