"""The metrics door: what Prometheus scrapes, over http, or https with a certificate that lives as long as the process."""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
import zlib
from pathlib import Path

from mesh.core.errors import Unsupported
from mesh.doors.http_small import Request, Response, SmallServer
from mesh.doors.probes import not_found
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.options import Options

log = logging.getLogger(__name__)

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GZIP_LEVEL, _GZIP_WINDOW = 1, 31
"""Fast, because the event loop waits for it; 31 is 32 KiB with the header of gzip (zlib manual)."""


def metrics_door(metrics: Metrics, bind: str, *, log_scrapes: bool = False) -> SmallServer | None:
    """The door that `MM_METRICS` asks for; None if it asks for none. `start` raises `Unsupported` if there can be no https.

    Args:
        metrics: what is told.
        bind: address.
        log_scrapes: whether each scrape gets a line in the log (`MM_LOG_PROMETHEUS_REQS`).
    """
    options = metrics.options
    if not isinstance(options, Options):
        return None

    async def answer(request: Request) -> Response:
        if log_scrapes:
            log.info("metrics are asked for", extra={"path": request.path, "names": request.query.get("name[]", [])})
        if request.path not in ("/", "/metrics"):
            return not_found(request, "/metrics")
        zipped = _accepts_gzip(request.headers.get("accept-encoding", ""))
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW) if zipped else None
        parts: list[bytes] = []
        for piece in metrics.exposition(request.query.get("name[]", ())):
            text = piece.encode("utf-8", "replace")
            parts.append(packer.compress(text) if packer else text)
            await asyncio.sleep(0)  # Calls go on between the pieces of a long answer.
        headers: tuple[tuple[str, str], ...] = (("vary", "accept-encoding"),)
        if packer:
            parts.append(packer.flush())
            headers += (("content-encoding", "gzip"),)
        return Response(200, b"".join(parts), _CONTENT_TYPE, headers)

    return SmallServer(answer, bind, options.port, "MM_METRICS", _self_signed if options.scheme == "https" else None)


def _accepts_gzip(header: str) -> bool:
    for choice in header.lower().split(","):
        name, *parameters = (part.strip() for part in choice.split(";"))
        if name in ("gzip", "*"):
            return not any(part.startswith("q=") and not part.strip("q=0. ") for part in parameters)
    return False


async def _self_signed() -> ssl.SSLContext:
    """A context with a new key and a certificate that only it has signed; neither outlives this function as a file."""
    with tempfile.TemporaryDirectory(prefix="mesh-metrics-") as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        words = (
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=modelmesh",
        )
        advice = "install openssl or set MM_METRICS=prometheus:port=2112;scheme=http"
        try:
            process = await asyncio.create_subprocess_exec(
                *("openssl", *words, "-keyout", key, "-out", certificate),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Unsupported(f"metrics over https need the openssl command, which does not start ({error.strerror}); {advice}") from None
        _, said = await process.communicate()
        if process.returncode:
            raise Unsupported(
                f"metrics over https need a certificate, and openssl made none: {said.decode(errors='replace').strip()}; {advice}"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context
