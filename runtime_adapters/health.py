"""`grpc.health.v1` on the SPI port: whether the model server behind the adapter answers.

Unlike the servicer that grpcio ships, a watcher is told of every change in order: NOT_SERVING followed at once by SERVING is how a
restarted model server shows, and must not be merged into nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

SERVICES = frozenset(["", "mmesh.ModelRuntime"])


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # grpcio-health-checking has no types
    """Answers for the whole server and for `mmesh.ModelRuntime`, which are the same thing; NOT_SERVING until told otherwise."""

    def __init__(self) -> None:
        self._status = pb.HealthCheckResponse.NOT_SERVING
        self._watchers: set[asyncio.Queue[int | None]] = set()
        self._up = asyncio.Event()

    @property
    def serving(self) -> bool:
        """What is answered at the moment."""
        return bool(self._status == pb.HealthCheckResponse.SERVING)

    def set(self, serving: bool) -> None:
        """Answer SERVING or NOT_SERVING from now on."""
        status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        if status == self._status:
            return
        self._status = status
        if serving:
            self._up.set()
        else:
            self._up.clear()
        for watcher in self._watchers:
            watcher.put_nowait(status)

    def close(self) -> None:
        """End every watch, without a last word: this process stops, which says nothing about the model server."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    async def until_serving(self, timeout: float) -> bool:
        """Whether SERVING is answered now, or becomes so within `timeout` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._up.wait(), timeout)
        return self.serving

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        """The status now; NOT_FOUND for another service."""
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return pb.HealthCheckResponse(status=self._status)

    async def Watch(self, request: pb.HealthCheckRequest, context: Context) -> AsyncIterator[pb.HealthCheckResponse]:  # noqa: ARG002
        """The status now and every change after it; SERVICE_UNKNOWN for another service, as the protocol wants."""
        changes: asyncio.Queue[int | None] = asyncio.Queue()
        known = request.service in SERVICES
        changes.put_nowait(self._status if known else pb.HealthCheckResponse.SERVICE_UNKNOWN)
        if known:
            self._watchers.add(changes)
        try:
            while (status := await changes.get()) is not None:
                yield pb.HealthCheckResponse(status=status)
        finally:
            self._watchers.discard(changes)
