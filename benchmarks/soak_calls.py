"""The calls of `benchmarks/soak.py`: every way in which a pod is used, each at a pace of its own, and each answer looked at."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import httpx
from google.protobuf.message import Message

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_mesh_pb2 as mm
from tests.support.client import AliasStatus, Status, answer, example, to

WARM = "warm"
TURNS = 10
"""Models that take turns in less room than they need."""
LARGE = 150_000
ELEMENTS = [0.5, 1.25, -3.0, 4.0]
MOST_TOLD = 20
"""Errors that are kept word for word."""
TIMEOUT = 60.0
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
LITTLE = (*OPTIONS, ("grpc.http2.lookahead_bytes", 1 << 16), ("grpc.http2.bdp_probe", 0))
"""Of a client that lets only this much come before it reads."""
PREDICTOR, MESH, V2 = "/mmesh.ExamplePredictor", "/mmesh.ModelMesh", "/inference.GRPCInferenceService"
Answer = TypeVar("Answer", bound=Message)


class Unexpected(Exception):
    """An answer that is not the one that was to come."""


@dataclass
class Traffic:
    """Whom the calls go to, and what came of them by kind."""

    address: str
    rest: str
    channel: grpc.aio.Channel
    http: httpx.AsyncClient
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def steadily(self, kind: Kind) -> None:
        """Makes calls of one kind for good."""
        while True:
            try:
                await asyncio.wait_for(kind.call(self), TIMEOUT)
                self.done[kind.name] += 1
            except (Unexpected, grpc.RpcError, httpx.HTTPError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.failed[kind.name] += 1
                if len(self.told) < MOST_TOLD:
                    self.told.append(f"{kind.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            await asyncio.sleep(1 / kind.pace)


@dataclass(frozen=True)
class Kind:
    """One kind of calls; `pace`: so many a second at most."""

    name: str
    pace: float
    call: Callable[[Traffic], Awaitable[None]]


@asynccontextmanager
async def traffic(address: str, rest: str) -> Any:
    """Connections for the calls; the warm model is loaded."""
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel, httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
        made = Traffic(address, rest, channel, http)
        await _register(made, WARM, load=True)
        for number in range(TURNS):
            await _register(made, f"turn-{number}")
        yield made


def same(found: object, wanted: object) -> None:
    if found != wanted:
        raise Unexpected(f"{str(found)[:200]} is not {str(wanted)[:200]}")


# gRPC


async def _unary(
    channel: grpc.aio.Channel, method: str, request: Message, answers: type[Answer], *metadata: tuple[str, str], **more: Any
) -> Answer:
    call: Any = channel.unary_unary(method, None, answers.FromString)
    found: Answer = await call(request.SerializeToString(), metadata=metadata, timeout=TIMEOUT, **more)
    return found


async def _said(channel: grpc.aio.Channel, model: str, text: str, **more: Any) -> str:
    request = example.PredictRequest(text=text)
    found = await _unary(channel, f"{PREDICTOR}/predict", request, example.PredictResponse, ("mm-model-id", model), **more)
    return str(found.results[0].category)


async def _register(traffic: Traffic, model: str, *, load: bool = False) -> None:
    # What was not used of late is not loaded where there is no room.
    used = int(time.time() * 1000) if load else 0
    info = mm.ModelInfo(type="example")
    request = mm.RegisterModelRequest(modelId=model, modelInfo=info, loadNow=load, sync=load, lastUsedTime=used)
    found = await _unary(traffic.channel, f"{MESH}/registerModel", request, mm.ModelStatusInfo)
    if load:
        same((found.status, list(found.errors)), (Status.LOADED, []))


async def small(traffic: Traffic) -> None:
    same(await _said(traffic.channel, WARM, "hello"), answer(WARM))


async def large(traffic: Traffic) -> None:
    tensor = v2.ModelInferRequest.InferInputTensor(name="x", datatype="UINT8", shape=[LARGE])
    request = v2.ModelInferRequest(model_name=WARM, inputs=[tensor], raw_input_contents=[bytes(range(250)) * (LARGE // 250)])
    found = await _unary(traffic.channel, f"{V2}/ModelInfer", request, v2.ModelInferResponse)
    same(bytes(found.raw_output_contents[0]), bytes(request.raw_input_contents[0]))


async def _conversation(channel: grpc.aio.Channel, texts: list[str], pause: float = 0.0) -> list[Any]:
    call: Any = channel.stream_stream(f"{PREDICTOR}/predictStream", None, example.PredictResponse.FromString)
    stream = call(metadata=to(WARM), timeout=TIMEOUT)

    async def say() -> None:
        for text in texts:
            await stream.write(example.PredictRequest(text=text).SerializeToString())
        await stream.done_writing()

    saying = asyncio.create_task(say())
    found = []
    try:
        async for message in stream:
            found.append(message)
            await asyncio.sleep(pause)
        await saying
    finally:
        saying.cancel()
        stream.cancel()
    return found


async def streams(traffic: Traffic) -> None:
    texts = [f"{number}" for number in range(5)]
    found = await _conversation(traffic.channel, texts)
    same([one.results[0].category for one in found], [answer(WARM, text) for text in texts])


async def slow_grpc(traffic: Traffic) -> None:
    """Far more is answered than the client lets come."""
    async with grpc.aio.insecure_channel(traffic.address, LITTLE) as channel:
        found = await _conversation(channel, ["test:fill:200000"] * 20, 0.2)
    same([len(one.request) for one in found], [200_000] * 20)


async def handed_over(traffic: Traffic) -> None:
    """What only Python serves: management, and a compressed request."""
    found = await _unary(traffic.channel, f"{MESH}/getModelStatus", mm.GetStatusRequest(modelId=WARM), mm.ModelStatusInfo)
    same(found.status, Status.LOADED)
    same(await _said(traffic.channel, WARM, "x" * 500, compression=grpc.Compression.Gzip), answer(WARM, "x" * 500))


async def _refused(traffic: Traffic, model: str, text: str, code: grpc.StatusCode) -> None:
    try:
        await _said(traffic.channel, model, text)
    except grpc.aio.AioRpcError as error:
        same(error.code(), code)
        return
    raise Unexpected(f"{text!r} of {model} was answered")


async def errors(traffic: Traffic) -> None:
    await _refused(traffic, f"nobody-{next(traffic.numbers)}", "x", grpc.StatusCode.NOT_FOUND)
    await _refused(traffic, WARM, "test:error:code=INVALID_ARGUMENT:message=no", grpc.StatusCode.INVALID_ARGUMENT)
    await _refused(traffic, WARM, "test:error:code=UNAVAILABLE:message=away", grpc.StatusCode.INTERNAL)
    same((await traffic.http.post(f"{traffic.rest}/v2/models/{WARM}/infer", content=b'{"inputs": [')).status_code, 400)


async def cancelled(traffic: Traffic) -> None:
    """Callers that leave: one while it is answered, one in the middle of a stream, one that closes its HTTP connection."""
    for wait in (0.001, 0.02):
        call = asyncio.create_task(_said(traffic.channel, WARM, "test:sleep:200"))
        await asyncio.sleep(wait)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    stream = asyncio.create_task(_conversation(traffic.channel, ["1", "2", "test:sleep:200"]))
    await asyncio.sleep(0.05)
    stream.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stream
    reader, writer = await _connected(traffic)
    body = json.dumps(_body() | {"parameters": {"test": "test:sleep:200"}}).encode()
    writer.write(_head(len(body)) + body)
    await asyncio.sleep(0.02)
    writer.close()
    del reader


async def connections(traffic: Traffic) -> None:
    """Clients that come for one call and go; one of them says nothing."""
    async with grpc.aio.insecure_channel(traffic.address, OPTIONS) as channel:
        same(await _said(channel, WARM, "new"), answer(WARM, "new"))
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
        _echoed((await http.post(f"{traffic.rest}/v2/models/{WARM}/infer", json=_body())).json())
    host, _, port = traffic.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()


# Models that come and go


async def evicted(traffic: Traffic) -> None:
    """The next of those for which there is not room enough."""
    model = f"turn-{next(traffic.numbers) % TURNS}"
    same(await _said(traffic.channel, model, "turn"), answer(model, "turn"))


async def models(traffic: Traffic) -> None:
    """A model that nobody knew comes, serves and goes; an alias goes on to another one."""
    name, alias = f"new-{time.monotonic_ns():x}", f"alias-{next(traffic.numbers) % 3}"
    await _register(traffic, name, load=True)
    for _ in range(5):
        same(await _said(traffic.channel, name, "short"), answer(name, "short"))
    await _unary(traffic.channel, f"{MESH}/unregisterModel", mm.UnregisterModelRequest(modelId=name), mm.UnregisterModelResponse)
    target = f"{name}-2"
    request = mm.SetVModelRequest(
        vModelId=alias, targetModelId=target, modelInfo=mm.ModelInfo(type="example"), sync=True, autoDeleteTargetModel=True
    )
    found = await _unary(traffic.channel, f"{MESH}/setVModel", request, mm.VModelStatusInfo)
    same((found.status, found.activeModelId), (AliasStatus.DEFINED, target))
    for _ in range(5):
        called = example.PredictRequest(text="by alias")
        said = await _unary(traffic.channel, f"{PREDICTOR}/predict", called, example.PredictResponse, ("mm-vmodel-id", alias))
        same(said.results[0].category.rpartition("-")[2], "2")


# REST


def _body(repeats: int = 1) -> dict[str, Any]:
    return {"inputs": [{"name": "a", "shape": [len(ELEMENTS) * repeats], "datatype": "FP32", "data": ELEMENTS * repeats}]}


def _echoed(found: Any, repeats: int = 1) -> None:
    same(found["outputs"][0]["data"], ELEMENTS * repeats)


def _head(length: int) -> bytes:
    return f"POST /v2/models/{WARM}/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n".encode()


async def _connected(traffic: Traffic) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(traffic.rest)
    return await asyncio.open_connection(url.host, url.port, limit=4096)


async def rest(traffic: Traffic) -> None:
    _echoed((await traffic.http.post(f"{traffic.rest}/v2/models/{WARM}/infer", json=_body())).json())


async def rest_large(traffic: Traffic) -> None:
    """Half a megabyte, which the lane reads on a thread beside its own."""
    _echoed((await traffic.http.post(f"{traffic.rest}/v2/models/{WARM}/infer", json=_body(25_000))).json(), 25_000)


async def rest_binary(traffic: Traffic) -> None:
    raw = struct.pack(f"<{len(ELEMENTS)}f", *ELEMENTS)
    item = {"name": "a", "shape": [len(ELEMENTS)], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    found = await traffic.http.post(f"{traffic.rest}/v2/models/{WARM}/infer", content=text + raw, headers=headers)
    same((found.status_code, found.content[int(found.headers["inference-header-content-length"]) :]), (200, raw))


async def rest_python(traffic: Traffic) -> None:
    same((await traffic.http.get(f"{traffic.rest}/v2/models/{WARM}/ready")).status_code, 200)
    same((await traffic.http.post(f"{traffic.rest}/v2/models/nobody/infer", json=_body())).status_code, 404)


async def slow_rest(traffic: Traffic) -> None:
    """An answer of some hundred kilobytes, taken off the connection in small pieces."""
    reader, writer = await _connected(traffic)
    body = json.dumps(_body(25_000)).encode()
    writer.write(_head(len(body)) + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    left, found = int(head.partition("content-length: ")[2].split("\r\n")[0]), bytearray()
    while len(found) < left:
        found += await reader.read(4096)
        await asyncio.sleep(0.05)
    writer.close()
    _echoed(json.loads(found), 25_000)


KINDS = [
    Kind("gRPC, small", 20, small),
    Kind("gRPC, 150 kB", 2, large),
    Kind("gRPC, streams", 3, streams),
    Kind("gRPC, slow reader", 1, slow_grpc),
    Kind("handed over", 3, handed_over),
    Kind("errors", 2, errors),
    Kind("callers that leave", 3, cancelled),
    Kind("connections that come and go", 2, connections),
    Kind("models that are evicted", 1, evicted),
    Kind("models and aliases that come and go", 0.3, models),
    Kind("REST, JSON", 8, rest),
    Kind("REST, JSON of half a megabyte", 0.2, rest_large),
    Kind("REST, binary", 3, rest_binary),
    Kind("REST, Python's", 2, rest_python),
    Kind("REST, slow reader", 1, slow_rest),
]
