"""What REST inference costs with the express lane and without: CPU of the whole router process a request, in turns.

`python -m benchmarks.lane_rest [--rounds N] [--elements N …] [--output FILE]`. Two routers, with `MESH_LANE=auto` and with `off`, are
called in v2's JSON over HTTP/1.1 by `h2load`; both call the same `nghttpd`, which answers any inference with a file. Each keeps to one
core. A run counts only if every answer was a 200 with all its bytes; what the two say is compared as JSON before.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx

from benchmarks.lane_routers import MODEL, a_router
from benchmarks.lane_ways import OTHER_CORES, PROXY_CORE, UNARY, Load, Way, beside, framed, measured, pinned, running, turns
from benchmarks.load import middle, table
from mesh.protocols import inference_pb2 as v2
from tests.support import lane
from tests.support.ports import free
from tests.support.waiting import until

LANE, PYTHON = "router with the lane", "router without it"
MOST = 60_000_000
"""Bytes of requests of one run: of large ones fewer are made."""
FEWER = 4
"""Calls of the lane for one of the Python door."""
PATH = f"/v2/models/{MODEL}/infer"
JSON = {"content-type": "application/json"}


def values(count: int) -> list[float]:
    """Numbers as measurements have them: some digits."""
    draw = random.Random(7)
    return [round(draw.uniform(-100, 100), 5) for _ in range(count)]


def request(count: int) -> bytes:
    item = {"name": "x", "shape": [count], "datatype": "FP32", "data": values(count)}
    return json.dumps({"inputs": [item]}, separators=(",", ":")).encode()


def answer(count: int) -> bytes:
    """As the upstream has it: 32-bit floats, which a large answer tells in full."""
    made = v2.ModelInferResponse(model_name=MODEL)
    contents = made.outputs.add(name="y", datatype="FP32", shape=[count]).contents
    contents.fp32_contents.extend(struct.unpack(f"{count}f", struct.pack(f"{count}f", *values(count))))
    return framed(made.SerializeToString())


def compared(given: argparse.Namespace, count: int) -> dict[str, Way]:
    """Both routers, with requests and answers of so many elements."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, (upstream,) = Path(name), free()
        file = folder / "www" / UNARY
        file.parent.mkdir(parents=True)
        file.write_bytes(answer(count))
        body = folder / "body"
        body.write_bytes(request(count))
        server = ["nghttpd", "--no-tls", "-a127.0.0.1", f"-d{folder / 'www'}", "--trailer=grpc-status: 0", str(upstream)]
        stack.enter_context(running(folder / "nghttpd.log", *pinned(OTHER_CORES, *server)))
        ways = {}
        for name, mode in {LANE: "auto", PYTHON: "off"}.items():
            mesh = stack.enter_context(a_router(folder / mode, mode, upstream, PROXY_CORE))
            ways[name] = Way(mesh.router.ports["rest"], [mesh.router.process.pid], slow=mode == "off")
        agreed(ways, body)
        size = body.stat().st_size
        calls = max(40, min(given.calls, MOST // size))
        load = Load(calls, given.connections, 1, body, 0, PATH, ("--h1", *(f"-H{name}: {value}" for name, value in JSON.items())))
        for number in range(given.rounds):
            for each in turns(ways, number):
                measured(ways[each], replace(load, calls=max(given.connections, calls // FEWER)) if ways[each].slow else load)
        print(f"REST, {count} elements ({size} bytes): {calls} requests in each of {given.rounds} rounds\n{shown(ways)}\n", flush=True)
        return ways


def agreed(ways: dict[str, Way], body: Path) -> None:
    """Has both answer once; from then on answers have that many bytes.

    Raises:
        RuntimeError: they say different things.
    """
    said = {}
    with httpx.Client(trust_env=False, timeout=60) as http:
        for name, way in ways.items():
            said[name] = until(partial(_asked, http, f"http://127.0.0.1:{way.port}{PATH}", body.read_bytes()), f"an answer of the {name}")
            way.answer = len(said[name] or b"")
    lanes, pythons = (json.loads(said[name] or b"") for name in (LANE, PYTHON))
    if lanes != pythons:
        raise RuntimeError(f"the lane answers {str(lanes)[:300]}, and the Python door {str(pythons)[:300]}")


def _asked(http: httpx.Client, url: str, body: bytes) -> bytes | None:
    answer = http.post(url, content=body, headers=JSON)
    return answer.content if answer.status_code == 200 else None


def shown(ways: dict[str, Way]) -> str:
    rows = [["", "requests/s", "CPU a request", "least", "of the lane's"]]
    for name, way in ways.items():
        cost = f"{middle(way.cpu) * 1e6:,.1f} µs"
        rows.append([name, f"{middle(way.rates):,.0f}", cost, f"{min(way.cpu) * 1e6:,.1f} µs", f"{beside(way.cpu, ways[LANE].cpu)} x"])
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=10_000, help=f"of the lane in each round, or as many as make {MOST // 10**6} MB")
    parser.add_argument("--elements", type=int, nargs="+", default=[8, 30, 100_000], help="of the tensor in a request, and in its answer")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--output", type=Path, help="where the figures are written as JSON")
    given = parser.parse_args()
    if not lane.built():
        print("REST: skipped, the express lane is not compiled; `make lane` does it where cargo is")
        return
    sizes = {count: compared(given, count) for count in given.elements}
    if given.output:
        figures = {count: {name: way.to_json() for name, way in ways.items()} for count, ways in sizes.items()}
        given.output.write_text(json.dumps({"at": time.time(), "rest": figures}, indent=1))


if __name__ == "__main__":
    main()
