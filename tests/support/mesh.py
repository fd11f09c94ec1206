"""A real router beside a scripted model server, each a process of its own, and clients for both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import httpx

from tests.support import lane, ports
from tests.support.client import Client
from tests.support.http import plain
from tests.support.processes import Died, Server
from tests.support.runtime_state import Behaviour
from tests.support.waiting import PATIENCE, until

POD_NAME = "conformance-7f9c4d5b6-x2x9q"
INSTANCE_ID = POD_NAME[-12:]
CONTROL = "/support.RuntimeControl/do"
REGISTRIES = ("memory", "etcd")
"""Where a router may keep what it registers."""


class RuntimeProcess:
    """The scripted runtime as a process, its journal, and its strings."""

    def __init__(self, folder: Path, behaviour: Behaviour | None = None, *, separate: bool = False, socket: Path | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.journal_path = folder / "journal.jsonl"
        self._log = folder / "runtime.log"
        self._socket = socket
        # Kept for it: a port that it chose itself could be another's while it is down.
        self.port: int | None = None if socket else ports.free()[0]
        self.serving_port: int | None = ports.free()[0] if separate else None
        self._channel: grpc.Channel | None = None
        self._lines: list[dict[str, Any]] = []
        self._read = 0
        self.start()

    def start(self) -> None:
        """Starts it, the second time on the ports that it had; the script is the first one's again."""
        arguments = ["--journal", str(self.journal_path), "--behaviour", json.dumps(dataclasses.asdict(self.behaviour))]
        arguments += ["--port", str(self.port)] if self.port is not None else []
        arguments += ["--serving-port", str(self.serving_port)] if self.serving_port is not None else []
        arguments += ["--socket", str(self._socket)] if self._socket else []
        self.process = Server(["tests.support.runtime", *arguments], self._log)
        address = self.process.event("listening")
        self.port, self.serving_port = address["port"], address["serving_port"]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{address['control_port']}")

    def kill(self) -> None:
        """As a crash: no farewell, memory gone."""
        self._disconnect()
        self.process.kill()

    def stop(self) -> None:
        self._disconnect()
        self.process.stop(5)

    def do(self, command: str, **more: Any) -> Any:
        """A command of `Runtime.do`."""
        assert self._channel is not None
        call: grpc.UnaryUnaryMultiCallable[dict[str, Any], Any] = self._channel.unary_unary(
            CONTROL, lambda value: json.dumps(value).encode(), json.loads
        )
        return call({"command": command, **more}, timeout=10)["answer"]

    @contextmanager
    def holding(self, *gates: str) -> Iterator[None]:
        """While inside, work stops at these gates; see `Gates`."""
        for gate in gates:
            self.do("hold", gate=gate)
        try:
            yield
        finally:
            for gate in gates:
                self.do("release", gate=gate)

    @contextmanager
    def behaving(self, **fields: Any) -> Iterator[None]:
        """While inside, the script is another."""
        before = {name: getattr(self.behaviour, name) for name in fields}
        self.do("behave", **fields)
        try:
            yield
        finally:
            self.do("behave", **before)

    def journal(self) -> list[dict[str, Any]]:
        """Every line, of all lives of the runtime; `n` counts through."""
        if self.journal_path.exists():
            with self.journal_path.open("rb") as file:
                file.seek(self._read)
                # A last line without its end is still being written.
                complete, end, _ = file.read().rpartition(b"\n")
            self._read += len(complete) + len(end)
            for line in complete.splitlines():
                self._lines.append(json.loads(line) | {"n": len(self._lines)})
        return self._lines

    def seen(self, call: str, model: str | None = None, at: str = "start") -> list[dict[str, Any]]:
        """The lines of one kind of call, in order."""
        return [line for line in self.journal() if line["call"] == call and line["at"] == at and model in (None, line["model"])]

    def order(self, *calls: str) -> list[str]:
        """The lines of these kinds of calls as `start loadModel a`, in order."""
        return [f"{line['at']} {line['call']} {line['model']}" for line in self.journal() if line["call"] in calls]

    def loads(self, model: str | None = None) -> int:
        """Loads begun."""
        return len(self.seen("loadModel", model))

    def unloads(self, model: str | None = None) -> int:
        """Unloads begun."""
        return len(self.seen("unloadModel", model))

    def awaited(self, call: str, model: str, *, at: str = "start", times: int = 1) -> None:
        """Returns once the runtime saw this so many times."""
        until(lambda: len(self.seen(call, model, at)) >= times, f"{times} x {call} {model} {at}")

    @property
    def environment(self) -> dict[str, str]:
        """What tells a router where this runtime is."""
        found = {"INTERNAL_GRPC_SOCKET_PATH": str(self._socket)} if self._socket else {"INTERNAL_GRPC_PORT": str(self.port)}
        return found | ({"INTERNAL_SERVING_GRPC_PORT": str(self.serving_port)} if self.serving_port is not None else {})

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class RouterProcess:
    """`mesh router` as a process, on ports that it chose itself.

    Raises:
        Died: it ended while starting; the message has its log.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *, ready: bool = True) -> None:
        self.termination_log = folder / "termination.log"
        given = {
            "MM_SERVICE_NAME": "conformance",
            "WKUBE_POD_NAME": POD_NAME,
            "MESH_BIND_ADDRESS": "127.0.0.1",
            "MM_SVC_GRPC_PORT": "0",
            "REST_PROXY_LISTEN_PORT": "0",
            "MESH_PEER_PORT": "0",
            "MM_PROBE_PORT": "0",
            "MM_PRESTOP_WAIT_PORT": "0",
            "MM_METRICS": "prometheus:port=0;scheme=http",
            "MESH_LOG_LEVEL": "DEBUG",
            # Nothing is loaded that a story did not ask for, however long its mesh lives.
            "MESH_PROACTIVE_INTERVAL_MS": "0",
            # Nor does a copy come or go because of how often a story calls; those of scaling have their own ticks.
            "MESH_RATE_INTERVAL_MS": str(24 * 60 * 60 * 1000),
            "LL_TERMINATION_MSG_PATH": str(self.termination_log),
            **lane.variables(),
            **environment,
        }
        self.process = Server(["mesh.cli.app", "router"], folder / "router.log", {k: v for k, v in given.items() if v != "UNSET"})
        self.tls = "MM_TLS_PRIVATE_KEY_PATH" in environment
        if ready:
            try:
                self.await_ready()
            except BaseException:
                self.process.stop(2)
                raise

    def await_ready(self, within: float = PATIENCE) -> None:
        """Returns when the probe says ready; `within` in seconds, longer for a model server that is slow to start."""
        until(self._ready, "the router to be ready", within=within)

    def _ready(self) -> bool:
        if self.process.returncode is not None:
            raise Died(f"the router ended with {self.process.returncode}:\n{self.process.tail()}")
        return bool(self.process.events("listening")) and self.probe("/ready") == 200

    @cached_property
    def ports(self) -> dict[str, int]:
        """Of its doors: `grpc`, `rest`, `probe`, `metrics`."""
        return {name: port for name, port in self.process.event("listening").items() if isinstance(port, int)}

    @property
    def address(self) -> str:
        """Of the gRPC door."""
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def rest(self) -> str:
        """Base URL of the REST door."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.ports['rest']}"

    def probe(self, path: str) -> int:
        """Status of an HTTP GET on the probe port; 0 if nobody listens."""
        try:
            return plain.get(f"http://127.0.0.1:{self.ports['probe']}{path}", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def scrape(self, path: str = "/metrics") -> str:
        """The text of the metrics."""
        answer = plain.get(f"http://127.0.0.1:{self.ports['metrics']}{path}", timeout=5)
        answer.raise_for_status()
        return answer.text

    def stop(self) -> int:
        return self.process.stop()


@dataclass
class Mesh:
    """One pod: a router, its runtime, and a client of the router."""

    runtime: RuntimeProcess
    router: RouterProcess
    client: Client

    def logs(self) -> str:
        return f"--- router\n{self.router.process.tail()}\n--- runtime\n{self.runtime.process.tail(20)}"


@contextmanager
def a_mesh(
    folder: Path,
    behaviour: Behaviour | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    separate: bool = False,
    socket: Path | None = None,
) -> Iterator[Mesh]:
    """A pod for as long as the context lasts.

    Args:
        folder: takes logs and the journal.
        behaviour: the runtime's script.
        environment: of the router, beside what it needs to find its runtime; the value `UNSET` removes a variable.
        separate: whether the runtime serves inference on a port of its own.
        socket: of the runtime's management interface, instead of a port.
    """
    runtime = RuntimeProcess(folder, behaviour, separate=separate, socket=socket)
    try:
        router = RouterProcess(folder, {**runtime.environment, **(environment or {})})
        try:
            with Client.insecure(router.address) as client:
                yield Mesh(runtime, router, client)
        finally:
            router.stop()
    finally:
        runtime.stop()
