"""A real uvicorn whose application remembers what came as far as it. For tests.

    recording_app.py PORT PROTOCOL

PROTOCOL is h11 or httptools. `GET /v1/reached` answers with the paths of every request and websocket so far, as a
router reads them: there is no root path.
"""

import json
import sys
from typing import Any

import uvicorn

REACHED: set[str] = set()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers everything with 200."""
    if scope["type"] == "lifespan":
        return
    REACHED.add(f"{scope['type']} {scope.get('method', 'GET')} {scope['path']}")
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    body = json.dumps(sorted(REACHED)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app=app, host="127.0.0.1", port=int(sys.argv[1]), http=sys.argv[2], log_level="critical", lifespan="off"
    )
