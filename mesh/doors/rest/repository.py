"""The model repository over REST: the index is the mesh's own; loading and unloading are not a client's to order."""

from __future__ import annotations

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mesh.core.errors import Malformed
from mesh.doors.ports import Directory
from mesh.doors.rest import reading
from mesh.doors.rest.fields import Object

PAGE = 250
"""Lines that the directory gives at once; other calls get their turn between two pages."""

BODY_LIMIT = 65_536
"""Bytes of the body of an index request, which holds one flag."""


class Repository:
    """The routes under `/v2/repository`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def index(self, request: Request) -> Response:
        """GET `?ready=&limit=&after=` or POST `{"ready": bool}`: a JSON array of `{name, version, state, reason}`, by name."""
        query = request.query_params
        ready = _flag(query.get("ready"))
        if request.method == "POST" and (body := await reading.whole(request, BODY_LIMIT)).strip():
            ready = _ready(reading.parse(body)) or ready
        left, after = _limit(query.get("limit")), query.get("after", "")
        lines: list[bytes] = []
        while left is None or left > 0:
            wanted = PAGE if left is None else min(PAGE, left)
            page = self._directory.index(ready=ready, after=after, limit=wanted)
            lines.extend(orjson.dumps(entry._asdict()) for entry in page)
            if len(page) < wanted:
                break
            after, left = page[-1].name, None if left is None else left - len(page)
            await asyncio.sleep(0)
        return Response(b"[" + b",".join(lines) + b"]", media_type="application/json")


def _flag(text: str | None) -> bool:
    if text is None or text.lower() in ("", "false", "0"):
        return False
    if text.lower() in ("true", "1"):
        return True
    raise Malformed(f"query parameter 'ready': {text[:40]!r} is neither true nor false")


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text):
        return int(text)
    raise Malformed(f"query parameter 'limit': {text[:40]!r} is no whole number from 1")


def _ready(document: Object) -> bool:
    value = document.get("ready")
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Malformed("request: 'ready' must be true or false")
