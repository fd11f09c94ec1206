"""Makes traces that look like those of a busy mesh: few models are called often, most seldom."""

from __future__ import annotations

import math
import random
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

from mesh.simulation.trace import Trace, TracedModel

SPREAD = 0.8
"""Of the sizes' logarithm: two thirds of the models are within a factor of 2.2 of the usual size."""

BYTES_A_MS = 200_000
"""What a load reads, 200 MB a second, on top of `LEAST_LOAD`."""

LEAST_LOAD = 150.0
"""Milliseconds that a load takes, however small the model."""


@dataclass(frozen=True, slots=True)
class Making:
    """What kind of trace.

    Attributes:
        models: that there are.
        rate: calls a second, on average.
        zipf: the exponent: of the model in place n of popularity, calls are in proportion to n ** -zipf; 0 is all alike.
        seconds: that it lasts.
        size: bytes of a usual model.
        duration: ms of a call.
        seed: of all that is drawn.
    """

    models: int
    rate: float
    zipf: float
    seconds: float
    size: int
    duration: float = 10.0
    seed: int = 0


def make(wish: Making) -> Trace:
    """A trace; the same wish makes the same one."""
    draw = random.Random(wish.seed)
    names = [f"model-{number:0{len(str(wish.models - 1))}}" for number in range(wish.models)]
    trace = Trace()
    for name in names:
        size = max(1, round(wish.size * math.exp(draw.gauss(0, SPREAD))))
        load = round(LEAST_LOAD + size / BYTES_A_MS)
        trace.models[name] = TracedModel(size, load, wish.duration)
    weights = list(accumulate((place + 1) ** -wish.zipf for place in range(wish.models)))
    popular = draw.sample(names, len(names))
    time = draw.expovariate(wish.rate)
    while time <= wish.seconds:
        trace.accesses.append((round(time, 3), popular[bisect(weights, draw.random() * weights[-1], 0, wish.models - 1)]))
        time += draw.expovariate(wish.rate)
    called = {name for _, name in trace.accesses}
    trace.models = {name: model for name, model in trace.models.items() if name in called}
    return trace
