"""The data port in front of TorchServe: native calls pass byte for byte, the KServe v2 service is translated.

TorchServe has a v2 service of its own, under another package name; a handler that answers it with anything but a v2 object ends its
worker. The bridge asks the REST inference port instead, where every handler may answer what it likes, and where a handler is given JSON
that is parsed already. What a request becomes there: `rows.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
import httpx
from google.protobuf.message import Message

from mesh.protocols import inference_pb2 as v2
from runtime_adapters.errors import AdapterError, InvalidRequest, Late, RuntimeRefused, Unreachable
from runtime_adapters.torchserve import layout, rows, tensors
from runtime_adapters.torchserve.client import Client
from runtime_adapters.torchserve.layout import Facts
from runtime_adapters.torchserve.rows import Answer, Body
from runtime_adapters.torchserve.tensors import TensorError

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger(__name__)

NATIVE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
V2 = "inference.GRPCInferenceService"
OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
AT_A_TIME = 32
"""Rows of one request that TorchServe has at a time; more only fill its queue (`job_queue_size`) for everybody else."""
ANSWER_TIMEOUT = 600.0
"""Seconds for one row of a call without a deadline; TorchServe ends a worker that takes longer than its own `response_timeout`."""
STOP_GRACE = 2.0
"""Seconds that calls in progress get when the server stops."""

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""HTTP statuses of TorchServe; any other is INTERNAL."""


class Bridge:
    """Serves `listen` for the TorchServe behind `client` and `http`; models lie in `store`."""

    def __init__(self, client: Client, http: str, store: Path, listen: str) -> None:
        self.port = 0
        self._client = client
        self._http = httpx.AsyncClient(base_url=http, timeout=ANSWER_TIMEOUT, trust_env=False, limits=httpx.Limits(max_connections=None))
        self._store = store
        self._listen = listen
        self._facts: dict[str, Facts] = {}
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; `port` is known afterwards.

        Raises:
            OSError: the address is taken.
        """
        self._grpc = grpc.aio.server(options=OPTIONS)
        channel = self._client.inference
        native: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Predictions": grpc.unary_unary_rpc_method_handler(_passed_once(channel.unary_unary(f"/{NATIVE}/Predictions"))),
            "StreamPredictions": grpc.unary_stream_rpc_method_handler(_passed_on(channel.unary_stream(f"/{NATIVE}/StreamPredictions"))),
        }
        translated: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ModelInfer": _unary(self.infer, v2.ModelInferRequest),
            "ModelMetadata": _unary(self.metadata, v2.ModelMetadataRequest),
            "ModelReady": _unary(self.ready, v2.ModelReadyRequest),
        }
        handlers = ((NATIVE, native), (V2, translated))
        self._grpc.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, methods) for service, methods in handlers])
        try:
            self.port = self._grpc.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"the data endpoint {self._listen} is taken or cannot be listened on") from error
        await self._grpc.start()

    async def stop(self) -> None:
        """End calls in progress, after a grace, and close the connections."""
        if self._grpc:
            await self._grpc.stop(STOP_GRACE)
        await self._http.aclose()

    def forget(self, model_id: str) -> None:
        """What was read of a model holds no longer."""
        self._facts.pop(model_id, None)

    async def infer(self, request: v2.ModelInferRequest, context: Context) -> v2.ModelInferResponse:
        """Ask the handler for every row."""
        try:
            return await self._infer(request)
        except TensorError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"model {request.model_name}: {error}")
        except AdapterError as error:
            await context.abort(error.status, error.message)

    async def metadata(self, request: v2.ModelMetadataRequest, context: Context) -> v2.ModelMetadataResponse:
        """Inputs and outputs of the model's schema; TorchServe itself knows none."""
        try:
            described = await self._client.describe(request.name)
            facts = await self._known(request.name)
        except AdapterError as error:
            await context.abort(error.status, error.message)
        answer = v2.ModelMetadataResponse(
            name=request.name, versions=[str(described.get("modelVersion", "1.0"))], platform="pytorch_torchserve"
        )
        if facts.schema:
            for side, found in ((answer.inputs, facts.schema.inputs), (answer.outputs, facts.schema.outputs)):
                for one in found or ():
                    side.add(name=one.name, datatype="BYTES" if one.datatype == "STRING" else one.datatype, shape=one.shape)
        return answer

    async def ready(self, request: v2.ModelReadyRequest, context: Context) -> v2.ModelReadyResponse:
        """Whether a worker of the model is ready; an unknown model is not."""
        try:
            described = await self._client.describe(request.name)
        except RuntimeRefused:
            return v2.ModelReadyResponse(ready=False)
        except AdapterError as error:
            await context.abort(error.status, error.message)
        return v2.ModelReadyResponse(ready=any(worker.get("status") == "READY" for worker in described.get("workers", ())))

    async def _infer(self, request: v2.ModelInferRequest) -> v2.ModelInferResponse:
        facts = await self._known(request.model_name)
        inputs = tensors.read(request)
        asked = rows.whole(request.model_name, request.id, inputs) if facts.v2 == layout.REQUEST else rows.split(inputs)
        answers = await self._ask_all(request.model_name, asked)
        response = v2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
        outputs = [*(facts.schema.outputs or ())] if facts.schema else []
        try:
            tensors.write(response, rows.join(answers, outputs), raw=bool(request.raw_input_contents))
        except TensorError as error:
            # The request was fine: it is the handler, or the schema, that its author must look at.
            raise RuntimeRefused(f"the handler of model {request.model_name} answered what is no v2 response: {error}", _INTERNAL) from None
        return response

    async def _known(self, model_id: str) -> Facts:
        found = self._facts.get(model_id)
        if found is None:
            found = self._facts[model_id] = await asyncio.to_thread(layout.facts, self._store, model_id)
        return found

    async def _ask_all(self, model: str, asked: Sequence[Body]) -> list[Answer]:
        """The handler's answers in the order of the rows; the first failure ends the others."""
        if len(asked) == 1:
            return [await self._ask(model, asked[0])]
        gate = asyncio.Semaphore(AT_A_TIME)

        async def one(body: Body) -> Answer:
            async with gate:
                return await self._ask(model, body)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(body)) for body in asked]
        except* AdapterError as group_of:
            raise _first(group_of) from None
        return [task.result() for task in tasks]

    async def _ask(self, model: str, body: Body) -> Answer:
        if "/" in model:
            raise InvalidRequest(f"model {model!r} has a `/` in its name, which TorchServe's REST does not take: call Predictions instead")
        try:
            answer = await self._http.post(
                f"/predictions/{quote(model, safe='')}", content=body.content, headers={"content-type": body.type}
            )
        except httpx.TimeoutException:
            raise Late(f"{self._client.server} did not answer for model {model} in {ANSWER_TIMEOUT:g} s") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"{self._client.server} cannot be reached: {str(error) or type(error).__name__}") from None
        if answer.status_code != httpx.codes.OK:
            raise RuntimeRefused(_said(answer), _CODES.get(answer.status_code, _INTERNAL))
        return Answer(answer.content)


_INTERNAL = grpc.StatusCode.INTERNAL
_Bytes = Callable[..., Any]


def _unary(call: Callable[[Any, Context], Awaitable[Message]], request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of one message and one answer, decoded."""
    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=request.FromString, response_serializer=lambda answer: answer.SerializeToString()
    )


def _passed_once(call: _Bytes) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """A handler that passes one message and its answer."""

    async def handle(request: bytes, context: Context) -> bytes:
        try:
            return await call(request, timeout=context.time_remaining(), metadata=_metadata(context))  # type: ignore[no-any-return]
        except grpc.aio.AioRpcError as error:
            await _passed_failure(context, error)
            raise

    return handle


def _passed_on(call: _Bytes) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
    """A handler that passes one message and every answer as it comes."""

    async def handle(request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for answer in call(request, timeout=context.time_remaining(), metadata=_metadata(context)):
                yield answer
        except grpc.aio.AioRpcError as error:
            await _passed_failure(context, error)

    return handle


async def _passed_failure(context: Context, error: grpc.aio.AioRpcError) -> None:
    code, details = error.code(), error.details() or ""
    if code is _INTERNAL and details.startswith("Model not found"):
        # So the router learns that its copy is gone and loads it again, as with every other model server.
        code = grpc.StatusCode.NOT_FOUND
    await context.abort(code, details, error.trailing_metadata() or ())


def _metadata(context: Context) -> list[tuple[str, str | bytes]]:
    """What the caller sent, without what belongs to its own connection."""
    own = ("user-agent", "te", "content-type", "grpc-")
    return [(key, value) for key, value in context.invocation_metadata() or () if not key.startswith(own)]


def _first(group: BaseExceptionGroup[AdapterError]) -> AdapterError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, AdapterError)
    return error


def _said(answer: httpx.Response) -> str:
    """The message in an error of TorchServe: `{"code", "type", "message"}`."""
    try:
        return str(json.loads(answer.content)["message"])
    except (ValueError, KeyError, TypeError):
        return f"TorchServe answered {answer.status_code}: {answer.text[:200]}"
