"""When a pod writes its own record: at once if others would decide differently, else seldom (reference 6.6)."""

from __future__ import annotations

from mesh.core.policy import SECOND, Policy
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units

SHORTEST = Millis(2 * SECOND)
"""Between two writes; what comes up meanwhile is written when this is over (reference 0.2, MIN_PERIOD)."""

PERIOD = Millis(40 * SECOND)
"""How often a pod looks at its record though nothing happened (reference 0.2, INSTANCE_REC_PUBLISH_FREQ_MS)."""

LONGEST = Millis(160 * SECOND)
"""After this any change is worth a write (reference 6.6)."""


def least_space(policy: Policy) -> Units:
    """A pod with less free space than this counts as full (reference 4.2, minSpaceUnits)."""
    return Units(max(policy.default_size, min(policy.default_size * policy.slots, policy.capacity // 20)))


def due(before: InstanceRecord | None, at: Millis, after: InstanceRecord, now: Millis, least: Units) -> Millis | None:
    """When `after` is to be written; None if there is no need to.

    Args:
        before: the record written last; None if there is none yet.
        at: when that was.
        after: how the pod is now.
        least: free space below which the pod counts as full.
    """
    if before is None:
        return now
    old = now - at > LONGEST
    wanted = before != after if old else significant(before, after, now, least)
    return Millis(max(now, at + SHORTEST)) if wanted else None


def significant(before: InstanceRecord, after: InstanceRecord, now: Millis, least: Units) -> bool:
    """Whether other pods would decide differently by the newer record."""
    return (
        before.shutting_down != after.shutting_down
        or before.recycling != after.recycling
        or before.endpoint != after.endpoint
        or before.load_threads != after.load_threads
        or _by(before.capacity, after.capacity, percent=2)
        or _older(before.lru_time, after.lru_time, now)
        or abs(before.count - after.count) >= 10
        or _by(before.count, after.count, percent=15)
        or _by(before.used, after.used, percent=20)
        or (before.capacity - before.used < least) != (after.capacity - after.used < least)
        or _busier(before.loads_in_progress, after.loads_in_progress, after.load_threads)
        or abs(before.rpm - after.rpm) >= 100
        or abs(before.rpm - after.rpm) * 10 > before.rpm
        or (abs(before.calls - after.calls) >= 100 and _by(before.calls, after.calls, percent=25))
        or _by(before.used - before.idle, after.used - after.idle, percent=20)
    )


def _by(before: int, after: int, *, percent: int) -> bool:
    return before != after and abs(after - before) * 100 >= before * percent


def _older(before: Millis, after: Millis, now: Millis) -> bool:
    """The time of the oldest use moved by twenty seconds, or by a sixteenth of its age; an empty cache is unlike any other."""
    if NEVER in (before, after):
        return before != after
    moved = abs(after - before)
    return moved >= 20 * SECOND or (moved > 0 and moved * 16 >= now - before)


def _busier(before: int, after: int, threads: int) -> bool:
    """Idle or not, more than it can do at a time or not, or three more or fewer."""
    return bool(before) != bool(after) or (before > threads) != (after > threads) or abs(before - after) >= 3
