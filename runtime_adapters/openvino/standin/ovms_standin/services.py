"""gRPC: KServe v2's `inference.GRPCInferenceService`, and `Predict` of `tensorflow.serving.PredictionService`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import openvino as ov

from . import tensors
from .messages import CLASSES
from .repository import NotFound, Repository, Served
from .tensors import BadTensor

V2 = "inference.GRPCInferenceService"
TENSORFLOW = "tensorflow.serving.PredictionService"
_THREADS = 8
"""Calls at a time; the runtime shares the processors among them."""
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0))


class Services:
    """The methods; each takes a request and returns the response, or raises `NotFound` or `BadTensor`."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def live(self, request: Any) -> Any:  # noqa: ARG002 - nothing is in it
        """It answers."""
        return CLASSES["inference.ServerLiveResponse"](live=True)

    def ready(self, request: Any) -> Any:  # noqa: ARG002
        """It listens once it has read its configuration."""
        return CLASSES["inference.ServerReadyResponse"](ready=True)

    def server_metadata(self, request: Any) -> Any:  # noqa: ARG002
        """Says what it is."""
        return CLASSES["inference.ServerMetadataResponse"](name="stand-in for OpenVINO Model Server", version=f"stand-in-{_version()}")

    def model_ready(self, request: Any) -> Any:
        """Whether a model that is listed serves."""
        self._repository.find(request.name, request.version)
        return CLASSES["inference.ModelReadyResponse"](ready=True)

    def model_metadata(self, request: Any) -> Any:
        """Inputs and outputs, with -1 for what is variable."""
        served = self._repository.find(request.name, request.version)
        answer = CLASSES["inference.ModelMetadataResponse"](name=request.name, versions=[str(served.version)], platform="OpenVINO")
        with served.in_use() as model:
            for ports, described in ((model.inputs, answer.inputs), (model.outputs, answer.outputs)):
                for port in ports:
                    shape = [size.get_length() if size.is_static else -1 for size in port.get_partial_shape()]
                    described.add(name=_name(port), datatype=tensors.v2_datatype(port.get_element_type().to_dtype()), shape=shape)
        return answer

    def infer(self, request: Any) -> Any:
        """KServe v2. Outputs are raw."""
        served = self._repository.find(request.model_name, request.model_version)
        found = _run(served, tensors.from_v2(request), [output.name for output in request.outputs])
        answer = CLASSES["inference.ModelInferResponse"](model_name=request.model_name, model_version=str(served.version), id=request.id)
        for name, array in found.items():
            tensors.add_v2(answer, name, array)
        return answer

    def predict(self, request: Any) -> Any:
        """TensorFlow Serving."""
        spec = request.model_spec
        served = self._repository.find(spec.name, str(spec.version.value) if spec.HasField("version") else "")
        found = _run(served, tensors.from_tensorflow(request.inputs), list(request.output_filter))
        answer = CLASSES["tensorflow.serving.PredictResponse"]()
        answer.model_spec.name = spec.name
        answer.model_spec.version.value = served.version
        for name, array in found.items():
            answer.outputs[name].CopyFrom(tensors.to_tensorflow(array))
        return answer


def _run(served: Served, given: dict[str, np.ndarray[Any, Any]], asked: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs that were asked for, or all, by name."""
    with served.in_use() as model:
        ports = {_name(port): port for port in model.inputs}
        _check(ports, given)
        found = model.create_infer_request().infer({ports[name]: array for name, array in given.items()})
        outputs = {_name(port): np.array(array) for port, array in found.items()}
    if unknown := [name for name in asked if name not in outputs]:
        raise BadTensor(f"Unknown output {unknown[0]}; there are {', '.join(outputs)}")
    return {name: outputs[name] for name in asked or outputs}


def _check(ports: dict[str, Any], given: dict[str, np.ndarray[Any, Any]]) -> None:
    for name, array in given.items():
        if name not in ports:
            raise BadTensor(f"Missing input with specific name - Unexpected: {name}; Expected: {', '.join(ports)}")
        port = ports[name]
        kind = port.get_element_type().to_dtype()
        if array.dtype != kind:
            raise BadTensor(f"Invalid input precision - Expected: {kind}; Actual: {array.dtype}; input name: {name}")
        if not port.get_partial_shape().compatible(ov.PartialShape(list(array.shape))):
            raise BadTensor(f"Invalid input shape - Expected: {port.get_partial_shape()}; Actual: {list(array.shape)}; input name: {name}")
    if missing := [name for name in ports if name not in given]:
        raise BadTensor(f"Missing input with specific name - Required: {', '.join(missing)}")


def _name(port: Any) -> str:
    names = sorted(port.get_names())
    return names[0] if names else str(port.get_node().get_friendly_name())


def _version() -> str:
    return str(ov.__version__).partition("-")[0]


def grpc_server(repository: Repository) -> grpc.Server:
    """A server of both services, without a port yet."""
    services = Services(repository)
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
    v2 = {
        "ServerLive": _handler(services.live, "inference.ServerLiveRequest"),
        "ServerReady": _handler(services.ready, "inference.ServerReadyRequest"),
        "ServerMetadata": _handler(services.server_metadata, "inference.ServerMetadataRequest"),
        "ModelReady": _handler(services.model_ready, "inference.ModelReadyRequest"),
        "ModelMetadata": _handler(services.model_metadata, "inference.ModelMetadataRequest"),
        "ModelInfer": _handler(services.infer, "inference.ModelInferRequest"),
    }
    tensorflow = {"Predict": _handler(services.predict, "tensorflow.serving.PredictRequest")}
    handlers = [grpc.method_handlers_generic_handler(name, methods) for name, methods in ((V2, v2), (TENSORFLOW, tensorflow))]
    server.add_generic_rpc_handlers(handlers)
    return server


def _handler(method: Callable[[Any], Any], request: str) -> grpc.RpcMethodHandler[Any, Any]:
    def call(message: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(message)
        except NotFound as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except BadTensor as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    return grpc.unary_unary_rpc_method_handler(call, CLASSES[request].FromString, lambda answer: answer.SerializeToString())
