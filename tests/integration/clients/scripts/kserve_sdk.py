"""Stories of the KServe SDK's inference clients on a real MLServer behind the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy
import stories  # type: ignore[import-not-found]
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # type: ignore[import-not-found]

Where = dict[str, Any]


def _request(where: Where, *, binary: bool = False, model: str = "") -> Any:
    tensor = InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(numpy.array([where["pixels"]], dtype=numpy.float32), binary_data=binary)
    return InferRequest(model or where["model"], [tensor], request_id="seven", parameters={"text": "a word"})


def _rest(use: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            await use(client)

    asyncio.run(run())


def _grpc(where: Where, use: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InferenceGRPCClient(where["grpc"]) as client:
            await use(client)

    asyncio.run(run())


def rest_the_server_and_the_model_are_ready(where: Where) -> None:
    async def use(client: Any) -> None:
        assert await client.is_server_live(where["rest"])
        assert await client.is_server_ready(where["rest"])
        assert await client.is_model_ready(where["rest"], where["model"])
        assert not await client.is_model_ready(where["rest"], "nobody")

    _rest(use)


def rest_json_is_answered(where: Where) -> None:
    async def use(client: Any) -> None:
        answer = await client.infer(where["rest"], _request(where), model_name=where["model"])
        assert answer.id == "seven"
        assert answer.outputs[0].as_numpy().tolist() == [[8]]

    _rest(use)


def rest_binary_tensors_are_answered(where: Where) -> None:
    async def use(client: Any) -> None:
        answer = await client.infer(where["rest"], _request(where, binary=True), model_name=where["model"])
        assert answer.outputs[0].as_numpy().tolist() == [[8]]

    _rest(use)


def rest_a_dictionary_is_answered(where: Where) -> None:
    body = {"inputs": [{"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": where["pixels"]}]}

    async def use(client: Any) -> None:
        answer = await client.infer(where["rest"], body, model_name=where["model"], headers={"x-request-id": "1"})
        assert answer.outputs[0].data == [8]

    _rest(use)


def rest_an_unknown_model_is_not_found(where: Where) -> None:
    async def use(client: Any) -> None:
        with stories.failing(httpx.HTTPStatusError) as failure:
            await client.infer(where["rest"], _request(where, model="nobody"), model_name="nobody")
        assert failure.error.response.status_code == 404
        assert "nobody" in str(failure.error)

    _rest(use)


def grpc_the_server_and_the_model_are_ready(where: Where) -> None:
    async def use(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(where["model"])

    _grpc(where, use)


def grpc_typed_contents_are_answered(where: Where) -> None:
    async def use(client: Any) -> None:
        answer = await client.infer(_request(where), headers=(("x-request-id", "1"),))
        assert answer.id == "seven"
        assert answer.outputs[0].as_numpy().tolist() == [[8]]

    _grpc(where, use)


def grpc_raw_contents_are_answered(where: Where) -> None:
    async def use(client: Any) -> None:
        answer = await client.infer(_request(where, binary=True))
        assert answer.outputs[0].as_numpy().tolist() == [[8]]

    _grpc(where, use)


def grpc_an_unknown_model_is_not_found(where: Where) -> None:
    async def use(client: Any) -> None:
        with stories.failing(grpc.aio.AioRpcError) as failure:
            await client.infer(_request(where, model="nobody"))
        assert failure.error.code() is grpc.StatusCode.NOT_FOUND

    _grpc(where, use)


if __name__ == "__main__":
    stories.run(globals())
