"""python -m chat_page --api URL: serve the page."""

from __future__ import annotations

import os
import sys

from chat_page.settings import SettingsError, read

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
"""Read by libraries while they are imported."""


def main() -> int:
    """Serve until the process is stopped."""
    os.environ.update(QUIET)
    try:
        settings = read(sys.argv[1:])
    except SettingsError as error:
        print(f"chat-page: {error}", file=sys.stderr)
        return 2
    import uvicorn  # noqa: PLC0415 - after the environment is set; importing gradio takes seconds

    from chat_page.server import application  # noqa: PLC0415

    shown = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
    print(f"the page of {settings.api} is at http://{shown}:{settings.port}{settings.root_path}/", flush=True)
    uvicorn.run(
        application(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
