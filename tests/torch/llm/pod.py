"""One pod of the language model runtime and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc

from mesh.protocols import inference_pb2 as v2
from tests.integration.mlserver_adapter.rig import Rig, load_request
from tests.support.client import Client
from tests.support.mesh import RouterProcess

TIMEOUT = 120.0
"""Seconds that every call gets."""
KIND = "peft-model"
Request = v2.ModelInferRequest


class Pod:
    """MLServer, adapter and router."""

    def __init__(self, environment: Path, folder: Path, server: Mapping[str, str]) -> None:
        self.rig = Rig(environment, folder, server, LOADTIME_TIMEOUT="200000")
        try:
            self.log = folder / "mlserver.log"
            self.rig.mlserver.start()
            serving = {"INTERNAL_GRPC_PORT": str(self.rig.port), "INTERNAL_SERVING_GRPC_PORT": str(self.rig.mlserver.port)}
            self.router = RouterProcess(folder, serving)
        except BaseException:
            self.rig.close()
            raise
        self.client = Client.insecure(self.router.address)

    def close(self) -> None:
        self.client.channel.close()
        self.router.stop()
        self.rig.close()

    def serve(self, model: str, path: str) -> str:
        """Registers what lies at a path of the claim, and returns its name once it is loaded."""
        # The first load of the process imports PyTorch, which outlasts the client's patience.
        self.client.register(model, path, kind=f"mt:{KIND}", key=load_request(model, path, KIND).modelKey)
        self.asked(model, "x")
        return model

    def asked(self, model: str, text: str, **parameters: int) -> str:
        """The answer to one text."""
        answer = self.client.v2.ModelInfer(request(model, text.encode(), **parameters), timeout=TIMEOUT)
        return word(answer)

    def pieces(self, model: str, *texts: str, **parameters: int) -> Iterator[str]:
        """The pieces of the answers to texts, one request each, in one stream."""
        requests = iter([request(model, text.encode(), **parameters) for text in texts])
        return (word(answer) for answer in self.stream(requests))

    def stream(self, requests: Iterator[Request]) -> Iterator[v2.ModelInferResponse]:
        """The stream of MLServer's own protocol; the stubs here have Triton's, which answers with another message."""
        call: grpc.StreamStreamMultiCallable[Request, v2.ModelInferResponse] = self.client.channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer", Request.SerializeToString, v2.ModelInferResponse.FromString
        )
        return call(requests, timeout=TIMEOUT)


def request(model: str, *texts: bytes, **parameters: int) -> Request:
    tensor = Request.InferInputTensor(name="content", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(texts)
    made = Request(model_name=model, inputs=[tensor])
    for name, value in parameters.items():
        made.parameters[name].int64_param = value
    return made


def word(answer: v2.ModelInferResponse) -> str:
    """The text of the one row of the one output."""
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("output-0", "BYTES", [1, 1])
    (text,) = output.contents.bytes_contents
    return text.decode()
