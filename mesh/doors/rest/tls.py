"""TLS of the REST door; both doors take the same files."""

from __future__ import annotations

from mesh.doors.tls import TlsFiles, context

__all__ = ["TlsFiles", "context"]
