"""A real uvicorn with a FastAPI application that answers every path, as an engine would be started. For tests.

    guarded_app.py PORT [ROOT_PATH]

It asks for loopback, as the operator's LMDeploy does. What it answers says which route was reached.
"""

import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

app = FastAPI(openapi_url=None)
app.root_path = sys.argv[2] if len(sys.argv) > 2 else ""


async def words(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"data: %d\n\n" % number


@app.post("/v1/stream")  # type: ignore[untyped-decorator]
async def stream(request: Request) -> StreamingResponse:
    """Chunks, as many as the body's bytes."""
    return StreamingResponse(words(len(await request.body())), media_type="text/event-stream")


@app.websocket("/{path:path}")  # type: ignore[untyped-decorator]
async def socket(websocket: WebSocket, path: str) -> None:
    """Says the path and ends."""
    await websocket.accept()
    await websocket.send_text(path)
    await websocket.close()


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])  # type: ignore[untyped-decorator]
async def anything(path: str) -> dict[str, str]:
    """Says the path."""
    return {"reached": path}


if __name__ == "__main__":
    uvicorn.run(app=app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
