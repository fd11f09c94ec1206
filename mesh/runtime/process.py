"""The model server's process behind an adapter: what memory it holds, and its end. Optional, beside the SPI (`runtime_process.proto`)."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from grpc import aio

from mesh.core.errors import RuntimeUnavailable
from mesh.protocols import runtime_process_pb2 as pb
from mesh.runtime.channels import describe

SERVICE = "mesh.runtime.v1.RuntimeProcess"

MEMORY_TIMEOUT = 5.0
"""Seconds; an adapter answers in milliseconds."""
END_TIMEOUT = 90.0
"""Seconds that the server gets to end; an adapter kills it before that."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a model server holds.

    Attributes:
        bytes: resident memory; None if it is not known.
        process: names the server's process among those before and after it.
        unknown: why it is not known.
    """

    bytes: int | None
    process: str = ""
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeProcess:
    """The process behind one runtime's management channel."""

    channel: aio.Channel

    async def memory(self) -> Held | None:
        """Asks what the server holds; None if the runtime does not offer that at all, and need not be asked again."""
        ask: aio.UnaryUnaryMultiCallable[pb.MemoryRequest, pb.MemoryResponse] = self.channel.unary_unary(
            f"/{SERVICE}/Memory", pb.MemoryRequest.SerializeToString, pb.MemoryResponse.FromString
        )
        try:
            answer = await ask(pb.MemoryRequest(), timeout=MEMORY_TIMEOUT)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            return Held(None, unknown=f"the adapter does not answer: {describe(error.code(), error.details())}")
        return Held(None, unknown=answer.unknown) if answer.unknown else Held(answer.held_bytes, answer.process)

    async def end(self) -> None:
        """Ends the server; returns when it is gone.

        Raises:
            RuntimeUnavailable: it was not ended; says why.
        """
        end: aio.UnaryUnaryMultiCallable[pb.RecycleRequest, pb.RecycleResponse] = self.channel.unary_unary(
            f"/{SERVICE}/Recycle", pb.RecycleRequest.SerializeToString, pb.RecycleResponse.FromString
        )
        try:
            await end(pb.RecycleRequest(), timeout=END_TIMEOUT)
        except aio.AioRpcError as error:
            raise RuntimeUnavailable(f"the model server was not ended: {describe(error.code(), error.details())}") from None
