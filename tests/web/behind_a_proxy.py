"""A reverse proxy as an Ingress that shows the page below a path, and takes the path off."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONNECTION = ("connection", "transfer-encoding", "keep-alive")


class PathProxy:
    """Passes on what is below a path, unbuffered, and answers 404 to everything else."""

    def __init__(self, path: str, port: int) -> None:
        """Begin to serve.

        Args:
            path: such as /chat; taken off before a request is passed on.
            port: of the page's server on this machine.
        """

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_arguments: object) -> None:
                """Silence."""

            def do_GET(self) -> None:
                self._pass_on()

            def do_POST(self) -> None:
                self._pass_on()

            def _pass_on(self) -> None:
                if not self.path.startswith(f"{path}/"):
                    self.send_error(404)
                    return
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in CONNECTION}
                page = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                try:
                    page.request(self.command, self.path.removeprefix(path), body or None, headers)
                    answer = page.getresponse()
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in CONNECTION:
                            self.send_header(name, value)
                    self.end_headers()
                    while piece := answer.read1():
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    pass  # the browser has gone
                finally:
                    page.close()
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
