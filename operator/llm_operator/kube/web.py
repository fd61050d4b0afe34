"""The process's own HTTP: metrics, health and readiness, answered by the loop that does the work."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from llm_operator.telemetry.metrics import Metrics

Check = Callable[[], str | None]
"""None when all is well, else what is wrong."""


def _probe(check: Check) -> Callable[[web.Request], object]:
    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(status=503 if wrong else 200, text=wrong or "ok")

    return answer


class WebServer:
    """Listens on two ports: metrics for scrapers, health for the kubelet."""

    def __init__(self, metrics: Metrics, healthy: Check, ready: Check, host: str = "0.0.0.0") -> None:  # noqa: S104
        self._metrics = metrics
        self._healthy = healthy
        self._ready = ready
        self._host = host
        self._runners: list[web.AppRunner] = []

    async def start(self, metrics_port: int, health_port: int) -> None:
        """Listen; the same port may serve both."""
        routes: dict[int, list[web.RouteDef]] = {metrics_port: [], health_port: []}
        routes[metrics_port].append(web.get("/metrics", self._scrape))
        routes[health_port] += [
            web.get("/healthz", _probe(self._healthy)),  # type: ignore[arg-type]
            web.get("/readyz", _probe(self._ready)),  # type: ignore[arg-type]
        ]
        for port, served in routes.items():
            app = web.Application()
            app.add_routes(served)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, self._host, port).start()
            self._runners.append(runner)

    async def stop(self) -> None:
        """Close the listeners."""
        for runner in self._runners:
            await runner.cleanup()

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
