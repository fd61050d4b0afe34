"""A client that has one answer streamed, so long a one that it takes the engine about so many seconds.

Runs in a pod, with the standard library only: `python streaming_client.py URL MODEL SECONDS`. It says `streaming` once
the answer has begun. Its last line is JSON: how many `tokens` it asked for, the `seconds` that the answer took, and its
`end`, which is `whole`, or else the last bytes.

It reads bytes and no lines: a client that is slower than the engine would have the answer out of the sockets' buffers,
and an engine that ends early would not be noticed.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from urllib.parse import urlsplit

TRIAL_TOKENS = 1000
"""Of the answer by which the engine's speed is measured."""
MOST_TOKENS = 30_000
"""What the tiny model has room for."""
TIMEOUT_SECONDS = 120
READ_BYTES = 1 << 20
TAIL_BYTES = 4096
LAST_CHUNK = b"\r\n0\r\n\r\n"
"""Of a body with Transfer-Encoding: chunked."""


def ask(url: str, model: str, tokens: int, word: str) -> tuple[float, str]:
    """Seconds that an answer took from its beginning, when the word is said, and its end.

    Raises:
        RuntimeError: the server refused.
    """
    question = [{"role": "user", "content": "hello"}]
    length = {"max_tokens": tokens, "ignore_eos": True}
    body = json.dumps({"model": model, "messages": question, "stream": True, **length})
    to = urlsplit(url)
    head = f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((str(to.hostname), to.port or 80), TIMEOUT_SECONDS) as connection:
        connection.sendall(f"{head}{body}".encode())
        tail = connection.recv(READ_BYTES)
        if not tail.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(tail.decode(errors="replace"))
        start = time.monotonic()
        print(word, flush=True)
        try:
            while read := connection.recv(READ_BYTES):
                tail = (tail + read)[-TAIL_BYTES:]
        except OSError as error:
            tail += repr(error).encode()
    # No other reason stands for an answer with all of its tokens.
    reason = b'"finish_reason":"length"' in tail.replace(b" ", b"")
    whole = reason and b"data: [DONE]" in tail and tail.endswith(LAST_CHUNK)
    return time.monotonic() - start, "whole" if whole else tail.decode(errors="replace")


def main() -> None:
    """Measure the engine's speed, and have it stream for so long."""
    url, model, seconds = sys.argv[1:]
    ask(url, model, TRIAL_TOKENS, "warming up")
    spent, _ = ask(url, model, TRIAL_TOKENS, "measuring")
    tokens = min(int(TRIAL_TOKENS * float(seconds) / spent), MOST_TOKENS)
    spent, end = ask(url, model, tokens, "streaming")
    print(json.dumps({"tokens": tokens, "seconds": spent, "end": end}), flush=True)


if __name__ == "__main__":
    main()
