"""Typed calls of the mesh's gRPC door, as a test wants to write them."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import grpc
import pytest

from mesh.protocols import inference_pb2_grpc as v2_grpc
from mesh.protocols import model_mesh_pb2 as mm
from mesh.protocols import model_mesh_pb2_grpc as mm_grpc
from tests.support import stubs

stubs.ensure()

from tests.support.protocols import example_pb2 as example  # noqa: E402
from tests.support.protocols import example_pb2_grpc as example_grpc  # noqa: E402

__all__ = ["AliasStatus", "Client", "Conversation", "Metadata", "Pending", "Status", "answer", "example", "example_grpc", "refused", "to"]

TIMEOUT = 30.0
"""Seconds that every call gets: nothing in a test may wait for ever."""
Metadata = tuple[tuple[str, str | bytes], ...]
Status = mm.ModelStatusInfo
AliasStatus = mm.VModelStatusInfo
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


class Pending(Protocol):
    """A call under way."""

    def result(self, timeout: float | None = None) -> Any: ...
    def cancel(self) -> Any: ...
    def done(self) -> bool: ...
    def code(self) -> Any: ...
    def details(self) -> Any: ...
    def exception(self, timeout: float | None = None) -> Any: ...


class Client:
    """One connection to a router."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.mesh = mm_grpc.ModelMeshStub(channel)
        self.predictor = example_grpc.ExamplePredictorStub(channel)
        self.v2 = v2_grpc.GRPCInferenceServiceStub(channel)

    @classmethod
    def insecure(cls, address: str) -> Self:
        return cls(grpc.insecure_channel(address, options=OPTIONS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.channel.close()

    # Management

    def register(
        self, model: str, path: str = "", *, kind: str = "example", key: str = "", load: bool = False, sync: bool = False, used: int = 0
    ) -> Status:
        """Registers a model; `load` and `sync` as in RegisterModelRequest, `used` is lastUsedTime."""
        info = mm.ModelInfo(type=kind, path=path, key=key)
        request = mm.RegisterModelRequest(modelId=model, modelInfo=info, loadNow=load, sync=sync, lastUsedTime=used)
        return self.mesh.registerModel(request, timeout=TIMEOUT)

    def loaded(self, model: str, path: str = "", **more: Any) -> str:
        """Registers a model, waits until it is loaded, and returns its id."""
        status = self.register(model, path, load=True, sync=True, **more)
        assert status.status == Status.LOADED, status
        return model

    def unregister(self, model: str) -> None:
        self.mesh.unregisterModel(mm.UnregisterModelRequest(modelId=model), timeout=TIMEOUT)

    def status(self, model: str) -> Status:
        return self.mesh.getModelStatus(mm.GetStatusRequest(modelId=model), timeout=TIMEOUT)

    def ensure(self, model: str, *, sync: bool = False, used: int = 0) -> Status:
        return self.mesh.ensureLoaded(mm.EnsureLoadedRequest(modelId=model, sync=sync, lastUsedTime=used), timeout=TIMEOUT)

    def set_alias(self, alias: str, model: str, **more: Any) -> AliasStatus:
        """Fields of SetVModelRequest; `path` and `kind` stand for its modelInfo."""
        info = mm.ModelInfo(type=more.pop("kind", "example"), path=more.pop("path", "")) if {"kind", "path"} & more.keys() else None
        return self.mesh.setVModel(mm.SetVModelRequest(vModelId=alias, targetModelId=model, modelInfo=info, **more), timeout=TIMEOUT)

    def alias(self, alias: str, owner: str = "") -> AliasStatus:
        return self.mesh.getVModelStatus(mm.GetVModelStatusRequest(vModelId=alias, owner=owner), timeout=TIMEOUT)

    def delete_alias(self, alias: str, owner: str = "") -> None:
        self.mesh.deleteVModel(mm.DeleteVModelRequest(vModelId=alias, owner=owner), timeout=TIMEOUT)

    # Inference

    def predict(
        self, model: str, text: str = "hello", *, name: str = "", metadata: Metadata = (), timeout: float = TIMEOUT
    ) -> example.PredictResponse:
        """A call of the example predictor with the model's id as a header; an empty id sends none."""
        request = example.PredictRequest(modelName=name, text=text)
        return self.predictor.predict(request, timeout=timeout, metadata=to(model, *metadata))

    def said(self, model: str, text: str = "hello", **more: Any) -> str:
        """The first line of the answer, which names the text and the model that answered."""
        return self.predict(model, text, **more).results[0].category

    def predicting(self, model: str, text: str = "hello", *, timeout: float = TIMEOUT) -> Pending:
        """As `predict`, without waiting for the answer."""
        return self.predictor.predict.future(example.PredictRequest(text=text), timeout=timeout, metadata=to(model))

    def raw(self, method: str, payload: bytes = b"", metadata: Metadata = (), timeout: float = TIMEOUT) -> bytes:
        """Any unary method by its full name, as bytes."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{method}", None, None)
        return call(payload, timeout=timeout, metadata=metadata)


class Conversation:
    """A stream of the example predictor in which every message waits until a test says it."""

    def __init__(self, client: Client, metadata: Metadata, *, timeout: float = TIMEOUT) -> None:
        self._sent: queue.Queue[example.PredictRequest | None] = queue.Queue()
        self.answers = client.predictor.predictStream(iter(self._sent.get, None), metadata=metadata, timeout=timeout)

    def say(self, text: str, name: str = "") -> None:
        self._sent.put(example.PredictRequest(text=text, modelName=name))

    def hear(self) -> str:
        return next(self.answers).results[0].category

    def end(self) -> None:
        self._sent.put(None)


def to(model: str, *more: tuple[str, str | bytes]) -> Metadata:
    """Metadata that name a model."""
    return ((("mm-model-id", model),) if model else ()) + more


def answer(model: str, text: str = "hello") -> str:
    """What the example predictor says first."""
    return f"classification for {text} by model {model}"


class Refusal:
    """The status that a call ended with."""

    code: grpc.StatusCode
    details: str
    trailers: dict[str, str | bytes]


@contextmanager
def refused(code: grpc.StatusCode, *parts: str, exactly: str | None = None) -> Iterator[Refusal]:
    """What is inside must end with this code, with a text that has every part in it, or is exactly this one."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    fill(refusal, caught.value)
    assert refusal.code == code, f"{refusal.code}: {refusal.details}"
    assert exactly is None or refusal.details == exactly, f"{refusal.details!r} is not {exactly!r}"
    for part in parts:
        assert part in refusal.details, f"{part!r} is not in {refusal.details!r}"


def fill(refusal: Refusal, error: Any) -> None:
    """The parts of an RpcError, which is a call at the same time."""
    refusal.code, refusal.details = error.code(), error.details() or ""
    refusal.trailers = dict(error.trailing_metadata() or ())
