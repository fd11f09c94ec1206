"""What Kubernetes asks: `/ready` and `/live`, `/prestop` for the hooks of runtime containers, and state as JSON for operators."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mesh.doors.http_small import Request, Response, SmallServer

Answer = tuple[int, Any]
"""HTTP status, and what is written as JSON."""
Route = Callable[[Request], Answer | Awaitable[Answer]]


def probes(bind: str, port: int, unready: Callable[[], str], routes: Mapping[str, Route] | None = None) -> SmallServer:
    """The door on `MM_PROBE_PORT`: `/live` answers 200 as long as the event loop turns, `/ready` 200 or 503, 404 elsewhere.

    Args:
        unready: why the pod is not to get calls; empty if it is.
        routes: answers in JSON for a path, and all paths below it, by that path; of several that fit, the longest.
    """
    known = sorted(((prefix.rstrip("/"), route) for prefix, route in (routes or {}).items()), key=lambda entry: -len(entry[0]))

    async def answer(request: Request) -> Response:
        if request.path == "/live":
            return Response.text(200, "OK")
        if request.path == "/ready":
            why = unready()
            return Response.text(503, f"not ready: {why}") if why else Response.text(200, "OK")
        for prefix, route in known:
            if request.path == prefix or request.path.startswith(f"{prefix}/"):
                outcome = route(request)
                status, document = await outcome if inspect.isawaitable(outcome) else outcome
                return Response.of_json(status, document)
        return not_found(request, "/ready", "/live", *(prefix for prefix, _ in reversed(known)))

    return SmallServer(answer, bind, port, "MM_PROBE_PORT")


class Prestop:
    """The door on `MM_PRESTOP_WAIT_PORT`: each `/prestop` waits, without holding up another, until this pod no longer needs its runtime.

    Args:
        limit: seconds after which a wait ends by itself.
    """

    def __init__(self, bind: str, port: int, limit: float) -> None:
        self._limit = limit
        self._released = asyncio.Event()
        self._server = SmallServer(self._answer, bind, port, "MM_PRESTOP_WAIT_PORT")

    async def start(self) -> int:
        """Listens, and answers the port; errors as of `SmallServer.start`."""
        return await self._server.start()

    def release(self) -> None:
        """Ends all waits, now and later."""
        self._released.set()

    async def stop(self) -> None:
        """Releases whoever waits, and stops."""
        self.release()
        await self._server.stop()

    async def _answer(self, request: Request) -> Response:
        if request.path != "/prestop":
            return not_found(request, "/prestop")
        try:
            async with asyncio.timeout(self._limit):
                await self._released.wait()
        except TimeoutError:
            return Response.text(200, f"not released within {self._limit} s")
        return Response.text(200, "OK")


def not_found(request: Request, *paths: str) -> Response:
    """404, naming what there is."""
    return Response.text(404, f"there is no {request.path} here; try {', '.join(paths)}")
