"""`mesh.runtime.v1.RuntimeProcess`: what the router may ask about the model server's process, beside the SPI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from mesh.protocols import runtime_process_pb2 as pb
from mesh.protocols import runtime_process_pb2_grpc
from runtime_adapters.server_process import NotVisibleError, ServerProcess, StillThereError

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class RuntimeProcess(runtime_process_pb2_grpc.RuntimeProcessServicer):
    """Answers for one model server."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self._ending: asyncio.Task[None] | None = None

    async def Memory(self, request: pb.MemoryRequest, context: Context) -> pb.MemoryResponse:  # noqa: ARG002
        """What the server holds, or why that is not known."""
        try:
            held = await asyncio.to_thread(self._process.held)
        except NotVisibleError as error:
            return pb.MemoryResponse(unknown=str(error))
        return pb.MemoryResponse(held_bytes=held.bytes, process=held.process)

    async def Recycle(self, request: pb.RecycleRequest, context: Context) -> pb.RecycleResponse:  # noqa: ARG002
        """Carried out to the end even if the caller leaves; calls that overlap end the server once."""
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._process.end())
        try:
            await asyncio.shield(self._ending)
        except NotVisibleError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except StillThereError as error:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))
        return pb.RecycleResponse()
