"""The scripted runtime's services: the SPI, the example predictor, and KServe v2."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import inference_pb2_grpc as v2_grpc
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.support import stubs
from tests.support.runtime_state import Context, Plan, Refusal, State

stubs.ensure()

from tests.support.protocols import example_pb2 as example  # noqa: E402
from tests.support.protocols import example_pb2_grpc as example_grpc  # noqa: E402

DETAILS = b"details of the example's error"
"""What `grpc-status-details-bin` has beside an error asked for with `test:error`."""


class Spi(spi_grpc.ModelRuntimeServicer):
    """`mmesh.ModelRuntime` after the script."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._polls = 0

    async def runtimeStatus(self, request: spi.RuntimeStatusRequest, context: Context) -> spi.RuntimeStatusResponse:
        state, script = self._state, self._state.behaviour
        status = spi.RuntimeStatusResponse.READY
        if script.failing:
            status = spi.RuntimeStatusResponse.FAILING
        elif self._polls < script.starting_polls:
            status = spi.RuntimeStatusResponse.STARTING
        self._polls += 1
        if status == spi.RuntimeStatusResponse.READY:
            state.models.purge()
        state.journal.note("runtimeStatus", "end", status=spi.RuntimeStatusResponse.Status.Name(status))
        return spi.RuntimeStatusResponse(
            status=status,
            capacityInBytes=script.capacity,
            maxLoadingConcurrency=script.loading_concurrency,
            modelLoadingTimeoutMs=script.load_timeout_ms,
            defaultModelSizeInBytes=script.default_size,
            limitModelConcurrency=script.max_concurrency > 0,
            allowAnyMethod=script.allow_any,
            methodInfos={name: spi.RuntimeStatusResponse.MethodInfo(idInjectionPath=path) for name, path in script.method_infos.items()},
        )

    async def loadModel(self, request: spi.LoadModelRequest, context: Context) -> spi.LoadModelResponse:
        state, models, model = self._state, self._state.models, request.modelId
        script = state.behaviour
        plan = models.plans[model] = Plan.of(request.modelPath, script.default_size)
        already = models.loaded.pop(model, 0)
        models.loading[model] = plan.size
        attributes = {"type": request.modelType, "path": request.modelPath, "key": request.modelKey}
        try:
            async with state.journal.call("loadModel", model, context, already=bool(already), **attributes):
                if model in models.unloading:
                    raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"{model} is still being unloaded")
                await self._load(model, plan)
                models.loaded[model] = models.loading.pop(model)
        finally:
            models.loading.pop(model, None)
        size = plan.size if script.size_by == "loadModel" else 0
        return spi.LoadModelResponse(sizeInBytes=size, maxConcurrency=script.max_concurrency)

    async def _load(self, model: str, plan: Plan) -> None:
        await self._state.gates.passing("load", model)
        if plan.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(plan.load_ms / 1000)
        if text := self._state.behaviour.fail_loads:
            raise Refusal(grpc.StatusCode.INTERNAL, text)
        failed = self._state.models.failed_once
        if plan.fails == "always" or (plan.fails == "once" and model not in failed):
            failed.add(model)
            raise Refusal(grpc.StatusCode.INTERNAL, plan.message)

    async def unloadModel(self, request: spi.UnloadModelRequest, context: Context) -> spi.UnloadModelResponse:
        state, models, model = self._state, self._state.models, request.modelId
        here = model in models.loaded
        try:
            async with state.journal.call("unloadModel", model, context, here=here):
                if state.behaviour.fail_unloads:
                    state.behaviour.fail_unloads -= 1
                    raise Refusal(grpc.StatusCode.UNAVAILABLE, f"cannot unload {model} now")
                if here:
                    models.unloading[model] = models.loaded.pop(model)
                    await state.gates.passing("unload", model)
                    await asyncio.sleep(models.plans[model].unload_ms / 1000)
                elif state.behaviour.unload_return_not_found:
                    raise Refusal(grpc.StatusCode.NOT_FOUND, f"{model} is not loaded")
                models.unloading.pop(model, None)
        finally:
            models.unloading.pop(model, None)
        return spi.UnloadModelResponse()

    async def predictModelSize(self, request: spi.PredictModelSizeRequest, context: Context) -> spi.PredictModelSizeResponse:
        state = self._state
        async with state.journal.call("predictModelSize", request.modelId, context):
            if not state.behaviour.predict_size:
                raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "sizes are not predicted here")
        return spi.PredictModelSizeResponse(sizeInBytes=Plan.of(request.modelPath, state.behaviour.default_size).size)

    async def modelSize(self, request: spi.ModelSizeRequest, context: Context) -> spi.ModelSizeResponse:
        state = self._state
        async with state.journal.call("modelSize", request.modelId, context):
            await state.gates.passing("size", request.modelId)
            if request.modelId not in state.models.loaded:
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"{request.modelId} is not loaded")
        return spi.ModelSizeResponse(sizeInBytes=state.models.loaded[request.modelId])


class Calls:
    """What every inference call has in common: which model, is it here, and the commands in its text."""

    def __init__(self, state: State) -> None:
        self._state = state

    @asynccontextmanager
    async def running(self, method: str, context: Context, named: str = "") -> AsyncIterator[str]:
        """One call on the model that the metadata name; ends with the script's words for a model that is not here."""
        models = self._state.models
        model = model_of(context) or named
        models.running[model] += 1
        try:
            async with self._state.journal.call(method, model, context):
                if model not in models.loaded:
                    self._missing(model)
                await context.send_initial_metadata((("x-runtime", "example"), ("x-runtime-bin", b"\xff\x00")))
                context.set_trailing_metadata((("x-runtime-trailer", model.encode().hex()),))
                yield model
        finally:
            models.running[model] -= 1

    def _missing(self, model: str) -> None:
        match self._state.behaviour.not_found:
            case "grpc":
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"model {model} is not loaded")
            case "triton":
                raise Refusal(grpc.StatusCode.UNAVAILABLE, f"Request for unknown model: '{model}' is not found")
            case "mlserver":
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Model {model} not found")

    async def obey(self, text: str, model: str) -> None:
        """Carries out a command `test:...`; any other text is no command."""
        command, _, rest = text.removeprefix("test:").partition(":") if text.startswith("test:") else ("", "", "")
        match command:
            case "purge-models":
                self._state.models.purge()
            case "error":
                code, _, message = rest.removeprefix("code=").partition(":message=")
                trailers = (("x-runtime-trailer", "of an error"), ("grpc-status-details-bin", DETAILS))
                raise Refusal(grpc.StatusCode[code], message, trailers)
            case "sleep":
                await asyncio.sleep(int(rest) / 1000)
            case "hold":
                self._state.journal.note("hold", "start", model)
                await self._state.gates.passing("call", model)
            case "exit":
                os._exit(1)
            case _:
                pass


class Predictor(example_grpc.ExamplePredictorServicer):
    """`mmesh.ExamplePredictor`: answers name the model that answered."""

    def __init__(self, state: State) -> None:
        self._calls = Calls(state)

    async def predict(self, request: example.PredictRequest, context: Context) -> example.PredictResponse:
        async with self._calls.running("predict", context, request.modelName) as model:
            return await self._answer(request, model, context)

    async def multiPredict(self, request: example.MultiPredictRequest, context: Context) -> example.MultiPredictResponse:
        async with self._calls.running("multiPredict", context) as model:
            answer = await self._answer(example.PredictRequest(text=request.text), model, context)
            return example.MultiPredictResponse(predictions={model: answer})

    async def predictStream(
        self, request_iterator: AsyncIterator[example.PredictRequest], context: Context
    ) -> AsyncIterator[example.PredictResponse]:
        async with self._calls.running("predictStream", context) as model:
            async for request in request_iterator:
                yield await self._answer(request, model, context)

    async def predictMany(self, request: example.PredictRequest, context: Context) -> AsyncIterator[example.PredictResponse]:
        async with self._calls.running("predictMany", context, request.modelName) as model:
            count = int(request.text.removeprefix("test:answers:")) if request.text.startswith("test:answers:") else 3
            for _ in range(count):
                yield await self._answer(request, model, context)

    async def predictAll(self, request_iterator: AsyncIterator[example.PredictRequest], context: Context) -> example.PredictResponse:
        async with self._calls.running("predictAll", context) as model:
            texts = []
            async for request in request_iterator:
                await self._calls.obey(request.text, model)
                texts.append(request.text)
            return await self._answer(example.PredictRequest(text="+".join(texts)), model, context)

    async def _answer(self, request: example.PredictRequest, model: str, context: Context) -> example.PredictResponse:
        await self._calls.obey(request.text, model)
        first = example.Category(category=f"classification for {request.text} by model {model}", confidence=1.0)
        answer = example.PredictResponse(results=[first, example.Category(category=request.modelName)])
        if request.text == "test:metadata":
            for name, value in context.invocation_metadata() or ():
                answer.headers.add(name=name, value=value if isinstance(value, bytes) else value.encode())
        if request.text == "test:bytes":
            answer.request = request.SerializeToString()
        if request.text.startswith("test:fill:"):
            answer.request = bytes(int(request.text.removeprefix("test:fill:")))
        answer.deadline = context.time_remaining() or 0.0
        return answer


class V2(v2_grpc.GRPCInferenceServiceServicer):
    """`inference.GRPCInferenceService`: what comes in goes out, under the name that the request has."""

    def __init__(self, state: State) -> None:
        self._calls = Calls(state)

    async def ModelInfer(self, request: v2.ModelInferRequest, context: Context) -> v2.ModelInferResponse:
        async with self._calls.running("ModelInfer", context, request.model_name) as model:
            await self._calls.obey(request.parameters["test"].string_param, model)
            return echo(request)

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[v2.ModelInferRequest], context: Context
    ) -> AsyncIterator[v2.ModelStreamInferResponse]:
        async with self._calls.running("ModelStreamInfer", context) as model:
            async for request in request_iterator:
                await self._calls.obey(request.parameters["test"].string_param, model)
                yield v2.ModelStreamInferResponse(infer_response=echo(request))

    async def ModelMetadata(self, request: v2.ModelMetadataRequest, context: Context) -> v2.ModelMetadataResponse:
        async with self._calls.running("ModelMetadata", context, request.name):
            tensor = v2.ModelMetadataResponse.TensorMetadata(name="any", datatype="FP32", shape=[-1])
            return v2.ModelMetadataResponse(name=request.name, versions=["1"], platform="example", inputs=[tensor], outputs=[tensor])


def echo(request: v2.ModelInferRequest) -> v2.ModelInferResponse:
    """The request's tensors and parameters as an answer."""
    answer = v2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    for tensor in request.inputs:
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape).contents.CopyFrom(tensor.contents)
        if not tensor.HasField("contents"):
            answer.outputs[-1].ClearField("contents")
    answer.raw_output_contents.extend(request.raw_input_contents)
    for name, value in request.parameters.items():
        if name != "test":
            answer.parameters[name].CopyFrom(value)
    return answer


def model_of(context: Context) -> str:
    """The concrete model id that the router names in the metadata, or the empty string."""
    found = dict(context.invocation_metadata() or ())
    if (encoded := found.get("mm-model-id-bin")) is not None:
        return encoded.decode() if isinstance(encoded, bytes) else encoded
    plain = found.get("mm-model-id", "")
    return plain.decode() if isinstance(plain, bytes) else plain
