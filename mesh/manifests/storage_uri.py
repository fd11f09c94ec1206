"""`storageUri` → path and parameters of storage (reference C.4)."""

from __future__ import annotations

from urllib.parse import urlsplit

from mesh.core.errors import Malformed

SCHEMES = ("s3", "gs", "pvc", "http", "https")


def parse_uri(uri: str) -> tuple[str, dict[str, str]]:
    """The path below its root, and the `storage_params` that name the root.

    Raises:
        Malformed: the scheme is none of `SCHEMES`, or bucket, claim, host or container is missing.
    """
    parts = urlsplit(uri)
    path = parts.path.lstrip("/")
    if parts.scheme not in SCHEMES:
        raise Malformed(f"{uri!r} has an unsupported storageUri scheme {parts.scheme!r}; supported are {', '.join(SCHEMES)}")
    if not parts.netloc:
        what = {"s3": "bucket", "gs": "bucket", "pvc": "claim"}.get(parts.scheme, "host")
        raise Malformed(f"{uri!r} names no {what}; it reads {parts.scheme}://<{what}>/<path>")
    if parts.scheme == "s3":
        return path, {"type": "s3", "bucket": parts.netloc}
    if parts.scheme == "gs":
        return path, {"type": "gcs", "bucket": parts.netloc}
    if parts.scheme == "pvc":
        return path, {"type": "pvc", "name": parts.netloc}
    host = parts.hostname or ""
    if host.endswith(".blob.core.windows.net"):
        container, _, below = path.partition("/")
        if not container:
            raise Malformed(f"{uri!r} names no container; it reads https://<account>.blob.core.windows.net/<container>/<path>")
        return below, {"type": "azure", "account_name": host.partition(".")[0], "container": container}
    query = f"?{parts.query}" if parts.query else ""
    return path, {"type": "http", "url": f"{parts.scheme}://{parts.netloc}{query}"}
