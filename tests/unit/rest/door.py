"""A REST door whose mesh is a function: it keeps what it was asked and answers what the test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx

from mesh.core.errors import Unknown
from mesh.doors.ports import Stream
from mesh.doors.rest.app import create_app
from mesh.pod.management import Listed
from mesh.protocols.inference_pb2 import ModelInferRequest, ModelInferResponse
from mesh.wire.call import Answer, Call

LIMIT = 1_000_000
Answering = Callable[[Call, bytes], Answer]


def echo(_: Call, payload: bytes) -> Answer:
    """Every input comes back as an output of the same name; raw if it came raw."""
    request = ModelInferRequest.FromString(payload)
    response = ModelInferResponse(model_name=request.model_name, id=request.id, raw_output_contents=request.raw_input_contents)
    for tensor in request.inputs:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        output.contents.CopyFrom(tensor.contents)
    return Answer(response.SerializeToString())


def answering(response: ModelInferResponse) -> Answering:
    """Always this answer."""
    return lambda _call, _payload: Answer(response.SerializeToString())


def failing(error: Exception) -> Answering:
    """Always this error."""

    def fail(_call: Call, _payload: bytes) -> Answer:
        raise error

    return fail


class Mesh:
    """A `Serving` and a `Directory`."""

    def __init__(self, answer: Answering = echo) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.payloads: list[bytes] = []
        self.models = {"iris": True, "broken": False}
        self.is_ready = True
        self.entries: list[Listed] = []

    async def unary(self, call: Call, payload: bytes) -> Answer:
        self.calls.append(call)
        self.payloads.append(payload)
        return self.answer(call, payload)

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> Stream:
        raise NotImplementedError

    def ready(self) -> bool:
        return self.is_ready

    def model_ready(self, name: str) -> bool:
        if name not in self.models:
            raise Unknown(f"there is no model {name}")
        return self.models[name]

    def index(self, *, ready: bool = False, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        return [entry for entry in self.entries if entry.name > after and (not ready or entry.state == "READY")][:limit]

    @property
    def request(self) -> ModelInferRequest:
        """The last inference that arrived."""
        return ModelInferRequest.FromString(self.payloads[-1])

    def client(self) -> httpx.AsyncClient:
        """An HTTP client in front of the door."""
        app = create_app(self, self, version="1.2.3", max_message=LIMIT)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mesh")

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request."""
        async with self.client() as client:
            return await client.request(method, path, **options)

    async def infer(self, document: object, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """One inference of the model iris; NaN and infinities go as JSON's common extension."""
        return await self.send("POST", "/v2/models/iris/infer", content=json.dumps(document).encode(), headers=headers)


def tensor(datatype: str, shape: Sequence[object], data: object, **more: object) -> dict[str, Any]:
    """A request of one input `x` in the v2 form."""
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": list(shape), "data": data, **more}]}


def proto(datatype: str, shape: Sequence[object], **contents: object) -> dict[str, Any]:
    """A request of one input `x` in the proto3 JSON form."""
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": list(shape), "contents": contents}]}


async def refused(document: object, *, headers: dict[str, str] | None = None, mesh: Mesh | None = None) -> str:
    """The text with which a bad inference is refused; it must never reach the mesh."""
    mesh = mesh or Mesh()
    response = await mesh.infer(document, headers=headers)
    assert response.status_code == 400, response.text
    assert mesh.calls == []
    body = response.json()
    assert body == {"error": body["error"], "code": 3, "message": body["error"]}
    text: str = body["error"]
    return text
