"""Two versions of a service, for tests: what they do without chance."""

from __future__ import annotations

from statistics import NormalDist

from mesh.core.traffic.judging import judge
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import Standing
from mesh.core.traffic.ticks import BUCKETS, NOTHING, Counts, Tick, bucket_of
from mesh.core.units import Millis


def did(calls: int, failed: int = 0, middle: float = 20.0, sigma: float = 0.45) -> Counts:
    """Calls whose times lie as evenly as they can in a lognormal distribution."""
    times = [0] * BUCKETS
    noise = NormalDist()
    for number in range(calls - failed):
        times[bucket_of(middle * 2.718281828 ** (sigma * noise.inv_cdf((number + 0.5) / (calls - failed))))] += 1
    return Counts(calls - failed, failed, tuple(times))


def tick(number: int, stable: Counts, canary: Counts = NOTHING, *, unloadable: str = "", crashed: str = "") -> Tick:
    """The one that ends so many times ten seconds after the begin."""
    return Tick(Millis(10_000 * number), stable, canary, unloadable, crashed)


PLAN = Plan(hold_ms=50_000, hold_calls=100, settle_ms=0, limit_ms=2_000_000, limit_calls=5_000)
BEGIN = Standing.begin(Millis(0))
KNOWN = judge(PLAN, BEGIN, tick(1, did(400, 4)))[0]
"""That of a rollout whose stable version has been seen once."""
