"""REST: what the server has, and the order to read its configuration again."""

from __future__ import annotations

import json
import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .repository import BadConfig, Repository

log = logging.getLogger(__name__)

_FAILED = "Reloading models versions failed. Check server logs for more info."


class RestServer(ThreadingHTTPServer):
    """Serves one repository; a reload that takes long keeps no other call waiting."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], repository: Repository) -> None:
        self.repository = repository
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: RestServer
    protocol_version = "HTTP/1.1"
    timeout = 300  # of a connection that is kept open and not used

    def do_GET(self) -> None:
        if self.path == "/v1/config":
            self._answer(200, self.server.repository.statuses())
        elif self.path in ("/v2/health/live", "/v2/health/ready"):
            self._answer(200, {})
        else:
            self._answer(404, {"error": "Invalid request URL"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/config/reload":
            self._answer(404, {"error": "Invalid request URL"})
            return
        try:
            changed, failed = self.server.repository.reload()
        except BadConfig as error:
            self._answer(412, {"error": str(error)})
            return
        if failed:
            self._answer(412, {"error": _FAILED})
        else:
            self._answer(201 if changed else 200, self.server.repository.statuses())

    def _answer(self, code: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Only what is worth a line: not each of the adapter's looks."""
        if self.command != "GET":
            log.info(format, *args)
