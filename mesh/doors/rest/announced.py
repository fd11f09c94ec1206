"""Connections that the express lane passes on: the REST door takes their clients for its own."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mesh.wire.callers import announced


class AnnouncedProtocol(HttpToolsProtocol):
    """HTTP/1.1 after an announcement; of requests, `client`, `server` and `scheme` are those of who called the lane.

    The subject of a certificate stands in the scope as ASGI's TLS extension has it, `client_cert_name`.
    """

    _before: bytes | None = b""
    _tls: dict[object, object] | None = None

    def data_received(self, data: bytes) -> None:
        """What came next."""
        if self._before is None:
            super().data_received(data)
            return
        self._before += data
        told = announced(self._before)
        if told is None:
            return
        rest, self._before = self._before[told.length :], None
        self.client, self.server, self.scheme = told.client, told.server, "https" if told.secure else "http"
        if told.secure:
            self._tls = {"client_cert_name": told.subject}
        if rest:
            super().data_received(rest)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._tls is not None:
            self.scope["extensions"] = {"tls": self._tls}
