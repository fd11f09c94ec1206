"""The express lane by itself, with one resident model: `python -m benchmarks.lane_served PORT UPSTREAM [--without FEATURE …]`.

For each line of its standard input it prints how many calls it brought to the copy since it was asked last, and ends with it. The
model is found by an alias in the request, whose id is put in its place; calls are counted with the histograms of the metrics. Features
that can be left out: `counting` (histograms), `injection` (of the id), `body` (the model is named by a header, and no request is looked
into).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.lane_ways import STREAM, UNARY
from tests.lane import built

ALIAS, MODEL = "bench", "bench-5f9c4d"
FEATURES = ("counting", "injection", "body")
TIMES, SIZES = [1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000], [128, 1_024, 8_192, 65_536, 1 << 20]


def serve(port: int, upstream: int, without: list[str], key: Path | None = None, chain: Path | None = None) -> None:
    """Serves until standard input ends.

    Raises:
        SystemExit: the lane is not compiled.
    """
    module = built.load()
    if module is None:
        raise SystemExit("the express lane is not compiled: `make lane`")
    more: dict[str, Any] = {} if "counting" in without else {"times": TIMES, "sizes": SIZES}
    if key and chain:
        more["tls"] = module.Tls(key.read_bytes(), chain.read_bytes())
    lane = module.Lane(f"127.0.0.1:{port}", f"127.0.0.1:{upstream}", **more)
    copy = lane.copy(f"127.0.0.1:{upstream}")
    models = [(MODEL, [copy])]
    # The name is an alias, or the id where another lane before this one has put that in its place: as routers have it by themselves.
    rule = ([] if "body" in without else [1], False, True, [] if {"injection", "body"} & {*without} else [1])
    lane.publish(models=models, aliases=[(ALIAS, MODEL)], rules=([(UNARY, rule), (STREAM, rule)], None, []))
    for _ in sys.stdin:
        print(json.dumps({"carried": sum(row[4][0] for row in lane.collect() if row[0] == MODEL)}), flush=True)
    lane.stop(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", type=int)
    parser.add_argument("--without", nargs="+", choices=FEATURES, default=[])
    parser.add_argument("--tls", nargs=2, type=Path, metavar=("KEY", "CHAIN"), default=(None, None))
    given = parser.parse_args()
    serve(given.port, given.upstream, given.without, *given.tls)


if __name__ == "__main__":
    main()
