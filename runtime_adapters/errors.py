"""What can go wrong in an adapter, each with the gRPC code that the router is told.

`InvalidRequest` and `NotConfigured` promise the router that nothing was attempted and no memory is held; every other class makes no
such promise.
"""

from __future__ import annotations

from typing import ClassVar, Self

import grpc


class AdapterError(Exception):
    """Root of the adapters' errors. The message reaches the user as the reason why a model failed."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def status(self) -> grpc.StatusCode:
        """The code to answer with."""
        return self.code

    def within(self, context: str) -> Self:
        """The same error, its message led in by `context`; the code stays the cause's."""
        self.message = f"{context}: {self.message}"
        self.args = (self.message,)
        return self


class InvalidRequest(AdapterError):
    """The request cannot be carried out as it is written; nothing was attempted."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotConfigured(AdapterError):
    """Something that the request refers to is not set up; nothing was attempted."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Missing(AdapterError):
    """A bucket, an object or a path does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class Denied(AdapterError):
    """The storage refuses these credentials."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unreachable(AdapterError):
    """The storage or the model server gives no answer."""

    code = grpc.StatusCode.UNAVAILABLE


class Damaged(AdapterError):
    """What arrived is not what was announced."""

    code = grpc.StatusCode.DATA_LOSS


class Full(AdapterError):
    """The disk has no room."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Late(AdapterError):
    """The model server did not answer in time."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class RuntimeRefused(AdapterError):
    """The model server answered with an error of its own, whose code is kept."""

    def __init__(self, message: str, status: grpc.StatusCode) -> None:
        super().__init__(message)
        self._status = status

    @property
    def status(self) -> grpc.StatusCode:
        """The model server's code."""
        return self._status


def from_rpc(error: grpc.RpcError, server: str) -> AdapterError:
    """The adapter's error for a failed call to the model server called `server`, for instance "MLServer at 127.0.0.1:8001"."""
    assert isinstance(error, grpc.aio.AioRpcError)
    details = error.details() or "no details given"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return Unreachable(f"{server} cannot be reached: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Late(f"{server} did not answer in time")
        case code:
            return RuntimeRefused(details, code)
