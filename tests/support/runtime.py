"""A scripted model server: the real SPI over real sockets, with models that are only numbers.

As a process of its own, `python -m tests.support.runtime --port 0` prints where it listens as one line of JSON
(`{"event": "listening", "port": …, "serving_port": …, "socket": …, "control_port": …}`) and ends with its standard input.
In a test's own event loop: `async with Runtime(Behaviour(...)) as runtime`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.protocols import inference_pb2_grpc as v2_grpc
from mesh.protocols import model_runtime_pb2 as spi_messages
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.support import stubs
from tests.support.runtime_services import V2, Predictor, Spi
from tests.support.runtime_state import Behaviour, State

stubs.ensure()

from tests.support.protocols import example_pb2_grpc as example_grpc  # noqa: E402

CONTROL = "/support.RuntimeControl/do"
"""Takes and answers JSON; see `Runtime.do`."""
OLD_SERVICE = "com.ibm.watson.tas.internal.proto.ModelServer"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Runtime:
    """One scripted model server.

    Args:
        behaviour: the script.
        port: of the management interface, and of the serving one unless that has its own; 0 chooses one, None means a Unix socket.
        serving_port: of a separate serving interface; 0 chooses one, None means there is none.
        socket: path of the Unix socket, if there is no port.
        journal: file that takes the journal's lines; appended to, so that it outlives the process.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        port: int | None = 0,
        serving_port: int | None = None,
        socket: Path | None = None,
        journal: Path | None = None,
    ) -> None:
        self.state = State(behaviour or Behaviour(), journal)
        self.port, self.serving_port, self.socket, self.control_port = port, serving_port, socket, 0
        self._health = health.aio.HealthServicer()
        self._servers: list[grpc.aio.Server] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; the ports are known afterwards."""
        management = self._server()
        spi = Spi(self.state)
        if self.state.behaviour.old_service:
            methods = ("runtimeStatus", "loadModel", "unloadModel", "predictModelSize", "modelSize")
            handlers = {name: _handler(spi, name) for name in methods}
            management.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(OLD_SERVICE, handlers),))
        else:
            spi_grpc.add_ModelRuntimeServicer_to_server(spi, management)
        if self.state.behaviour.health:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, management)
            await self._health.set("", SERVING)
        serving = management if self.serving_port is None else self._server()
        example_grpc.add_ExamplePredictorServicer_to_server(Predictor(self.state), serving)
        v2_grpc.add_GRPCInferenceServiceServicer_to_server(V2(self.state), serving)  # type: ignore[abstract]  # the rest is UNIMPLEMENTED
        if self.port is not None:
            self.port = management.add_insecure_port(f"127.0.0.1:{self.port}")
        if self.socket is not None:
            management.add_insecure_port(f"unix:{self.socket}")
        if self.serving_port is not None:
            self.serving_port = serving.add_insecure_port(f"127.0.0.1:{self.serving_port}")
        control = self._server()
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            self._do, json.loads, lambda answer: json.dumps(answer).encode()
        )
        service, method = CONTROL.strip("/").split("/")
        control.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.control_port = control.add_insecure_port("127.0.0.1:0")
        for server in self._servers:
            await server.start()

    async def stop(self) -> None:
        """Ends every call and stops listening."""
        self.state.gates.release_all()
        for server in self._servers:
            await server.stop(None)
        self._servers.clear()

    async def do(self, command: str, **more: Any) -> Any:
        """One command of a test.

        `behave` (fields of `Behaviour`), `hold` and `release` (`gate`; `*` releases all), `purge` (forget every model),
        `health` (`serving`), `journal` (its lines).
        """
        state = self.state
        match command:
            case "behave":
                for name, value in more.items():
                    setattr(state.behaviour, name, value)
            case "hold":
                state.gates.hold(more["gate"])
            case "release":
                state.gates.release_all() if more["gate"] == "*" else state.gates.release(more["gate"])
            case "purge":
                state.models.purge()
            case "health":
                await self._health.set("", SERVING if more["serving"] else NOT_SERVING)
            case "journal":
                return state.journal.lines
            case _:
                raise ValueError(f"unknown command {command!r}")
        return None

    @property
    def address(self) -> dict[str, Any]:
        """Where it listens."""
        return {
            "port": self.port,
            "serving_port": self.serving_port,
            "socket": str(self.socket) if self.socket else None,
            "control_port": self.control_port,
        }

    def _server(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=OPTIONS)
        self._servers.append(server)
        return server

    async def _do(self, request: dict[str, Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        # gRPC takes None for a broken message.
        return {"answer": await self.do(**request)}


def _handler(spi: Spi, method: str) -> grpc.RpcMethodHandler[Any, Any]:
    name = method[0].upper() + method[1:]
    request, response = getattr(spi_messages, f"{name}Request"), getattr(spi_messages, f"{name}Response")
    return grpc.unary_unary_rpc_method_handler(getattr(spi, method), request.FromString, response.SerializeToString)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model server for tests")
    parser.add_argument("--port", type=int)
    parser.add_argument("--serving-port", type=int)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--behaviour", default="", help="JSON: fields of Behaviour")
    given = parser.parse_args()
    script = Behaviour.of(given.behaviour, os.environ)
    runtime = Runtime(script, port=given.port, serving_port=given.serving_port, socket=given.socket, journal=given.journal)
    async with runtime:
        print(json.dumps({"event": "listening", **runtime.address}), flush=True)
        # The end of standard input is the end of whoever started this process, however it ended.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
