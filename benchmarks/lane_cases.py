"""What is measured of the express lane and of those beside it, and every way that a case has: `benchmarks/lane.py` takes them in turns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import lane_proxies
from benchmarks.lane_proxies import Tls
from benchmarks.lane_routers import a_router
from benchmarks.lane_served import ALIAS, FEATURES, MODEL
from benchmarks.lane_ways import (
    OTHER_CORES,
    PROXY_CORE,
    STREAM,
    UNARY,
    Load,
    Process,
    Way,
    asked,
    children,
    ends_well,
    framed,
    pinned,
    running,
)
from mesh.protocols import inference_pb2 as v2
from tests.lane import built
from tests.support.certificates import Authority
from tests.support.ports import free
from tests.support.waiting import until

MOST = 300_000_000
"""Bytes of requests of one run: of large ones fewer are made."""


@dataclass(frozen=True)
class Case:
    """One kind of load.

    Attributes:
        title: in words.
        size: bytes of a tensor in each message.
        connections, streams: of the load generator, and calls at a time on each.
        messages: of a call, both ways.
        hops: proxies in a row.
        tls: whether clients come over TLS; from the proxy on it is plaintext.
        routers: whether whole routers take part, with the lane and without.
        toggles: whether the lane takes part with one feature less, too.
    """

    title: str
    size: int = 300
    connections: int = 8
    streams: int = 8
    messages: int = 1
    hops: int = 1
    tls: bool = False
    routers: bool = False
    toggles: bool = False

    @property
    def path(self) -> str:
        return f"/{UNARY if self.messages == 1 else STREAM}"

    def request(self, model: str = ALIAS) -> bytes:
        message = v2.ModelInferRequest(model_name=model, raw_input_contents=[bytes(self.size)])
        return framed(message.SerializeToString()) * self.messages

    def answer(self) -> bytes:
        message = v2.ModelInferResponse(model_name=MODEL, raw_output_contents=[bytes(self.size)])
        streamed = v2.ModelStreamInferResponse(infer_response=message)
        return framed((message if self.messages == 1 else streamed).SerializeToString()) * self.messages


CASES = {
    "small": Case("unary, 300 B", routers=True, toggles=True),
    "large": Case("unary, 150 kB", size=150_000, routers=True),
    "connections": Case("unary, 300 B, many connections", connections=32, streams=1),
    "streams": Case("streams of 20 messages of 300 B", messages=20, routers=True),
    "hops": Case("unary, 300 B, two hops", hops=2),
    "tls": Case("unary, 300 B, clients over TLS", tls=True),
}


def why_not(case: Case) -> str:
    """What this build of the lane lacks for a case; empty if nothing."""
    module = built.load()
    return "this build of the lane has no TLS" if case.tls and not hasattr(module, "Tls") else ""


def answering(stack: ExitStack, folder: Path, case: Case, calls: int) -> tuple[int, Load]:
    """Starts who answers any call with a file: its port, and the load of the case."""
    (port,) = free()
    file = folder / "www" / case.path[1:]
    file.parent.mkdir(parents=True)
    file.write_bytes(case.answer())
    body = folder / "body"
    body.write_bytes(case.request())
    server = ["nghttpd", "--no-tls", "-a127.0.0.1", f"-d{folder / 'www'}", "--trailer=grpc-status: 0", str(port)]
    stack.enter_context(running(folder / "nghttpd.log", *pinned(OTHER_CORES, *server)))
    size = len(case.request())
    return port, Load(min(calls, MOST // size), case.connections, case.streams, body, len(case.answer()), case.path)


def start(stack: ExitStack, folder: Path, case: Case, upstream: int, load: Load) -> dict[str, Way]:
    """Every way of a case that can be had here, each of which answered a call with grpc-status 0."""
    tls = shown(folder) if case.tls else None
    ways = {"direct": Way(upstream), "lane": _lanes(stack, folder, case, upstream, tls)}
    if case.toggles:
        for feature in FEATURES:
            ways[f"lane without {feature}"] = way = _lanes(stack, folder, case, upstream, tls, feature)
            way.options += [f"-Hmm-vmodel-id: {ALIAS}"] if feature == "body" else []
    for name, (program, make) in lane_proxies.there().items():
        commands, (front, *_) = [], ports = [], free(case.hops)
        for number, port in enumerate(ports):
            after = [*ports, upstream][number + 1]
            commands.append(make(program, folder, port, after, tls if number == 0 else None))
        pids = [process.pid for process, _ in _started(stack, folder, name, commands)]
        ways[name] = Way(front, pids, native=True, scheme="https" if tls else "http")
    for way in ways.values():
        until(partial(ends_well, way, load), f"grpc-status 0 on port {way.port}")
        # nghttpx and nginx work in processes of their own.
        way.pids = [each for pid in way.pids for each in (children(pid) or [pid])]
    if case.routers:
        for name, mode in (("router with the lane", "auto"), ("router without it", "off")):
            mesh = stack.enter_context(a_router(folder / mode, mode, upstream, PROXY_CORE))
            ways[name] = way = Way(mesh.router.ports["grpc"], [mesh.router.process.pid], slow=mode == "off")
            until(partial(ends_well, way, load), f"grpc-status 0 of the {name}")
    return ways


def _lanes(stack: ExitStack, folder: Path, case: Case, upstream: int, tls: Tls | None, without: str = "") -> Way:
    ports = free(case.hops)
    commands = []
    for number, port in enumerate(ports):
        command = [sys.executable, "-P", "-m", "benchmarks.lane_served", str(port), str([*ports, upstream][number + 1])]
        command += ["--without", without] if without else []
        commands.append(command + (["--tls", str(tls.key), str(tls.chain)] if tls and number == 0 else []))
    started = _started(stack, folder, f"lane-{without}", commands)
    carried = [partial(asked, process, log) for process, log in started]
    return Way(ports[0], [process.pid for process, _ in started], carried=carried, scheme="https" if tls else "http")


def _started(stack: ExitStack, folder: Path, name: str, commands: Sequence[list[str]]) -> list[tuple[Process, Path]]:
    """The processes, and where each writes."""
    logs = [folder / f"{name}-{number}.log" for number in range(len(commands))]
    return [(stack.enter_context(running(log, *pinned(PROXY_CORE, *command))), log) for log, command in zip(logs, commands, strict=True)]


def shown(folder: Path) -> Tls:
    """A certificate that is made for the run."""
    key, chain = Authority(folder, "bench").issue("server")
    both = folder / "both.pem"
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    return Tls(key, chain, both)
