"""Every constant of the decisions, with its unit and where it comes from ("reference" is ModelMesh's observed behaviour)."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.units import UNIT_BYTES, Millis, Units, units, whole_units

SECOND = Millis(1_000)
HOUR = Millis(3_600_000)

MAX_ITERATIONS = 8
"""Attempts of one call at one pod (reference 0.2)."""

MAX_LOAD_FAILURES = 3
"""Pods on which a model fails to load before others are spared it (reference 0.2)."""

MAX_LOCATIONS = 5
"""Copies that live and do not serve before no further one is made (reference 0.2)."""

AGE_ON_LOAD = HOUR
"""A model registered to be loaded counts as used this long ago (reference 1.4)."""

AGE_ON_REGISTER = Millis(6 * HOUR)
"""A model registered without loading counts as used this long ago (reference 1.4)."""

UNKNOWN_AGE = Millis(3 * HOUR)
"""A model counts as used this long ago if it is told that it will be used in the far future (reference 6.7)."""

FAR = Millis(24 * HOUR)
"""A time of use that lies further ahead is no time."""

FIRST_RETRY = Millis(10 * SECOND)
"""A failed load is tried again after this, doubling up to the expiry."""

UNLOAD_RETRY_FIRST = SECOND
UNLOAD_RETRY_NEXT = Millis(10 * SECOND)
UNLOAD_RETRIES = 90
"""Attempts before an unload counts as failed for good (reference 4.7)."""

UNLOAD_AFTER_FAILURE = SECOND
UNLOAD_AFTER_TIMEOUT = Millis(3 * SECOND)
"""Pauses before the unload that follows a failed or cancelled load: an adapter may still be ending it (reference 4.6)."""

DOUBT = Millis(3 * SECOND)
"""How long a load that ended with UNAVAILABLE is held before it counts as failed: a watched runtime's loss shows within that time."""

STORY_LINES = 64
STORIES = 4_096
ENDED_STORIES = 256
"""Bounds on what is remembered for `explain`: lines a model, models a pod, and of these models that were deleted."""

MIN_LOAD_TIMEOUT = Millis(100)
MIN_CAPACITY = 512 * 1024 * 1024
"""Bounds on what a runtime may report (reference 2.3): the load timeout, and the capacity unless ten default sizes are less."""


def is_far(last_used: Millis, now: Millis) -> bool:
    """Whether a time of use says nothing: ModelMesh writes the largest number at times, and such a model would never be evicted.

    Clocks of pods may be hours apart.
    """
    return last_used > now + FAR


@dataclass(frozen=True, slots=True)
class Policy:
    """What one pod decides by: its runtime's figures and the settings that bear on them.

    Attributes:
        capacity: all of the runtime's memory for models.
        default_size: assumed of a model before anything is known.
        slots: loads at a time (the runtime's maxLoadingConcurrency).
        load_timeout: of one load call.
        failure_expiry: a failed load is forgotten, and tried again on demand, after this.
        drain_limit: a call on a leaving copy may last this long.
    """

    capacity: Units
    default_size: Units
    slots: int
    load_timeout: Millis
    failure_expiry: Millis = Millis(900_000)
    drain_limit: Millis = Millis(120_000)

    @property
    def reserve(self) -> Units:
        """Kept free of models so that a load may start while its victim is still being unloaded (reference 4.2)."""
        share = self.slots * self.default_size // (2 if self.slots <= 2 else 4)
        return Units(max(min(share, self.capacity // 10), self.capacity // 100))

    @property
    def room(self) -> Units:
        """What models can use: the capacity less the reserve."""
        return Units(self.capacity - self.reserve)

    @property
    def failure_counts(self) -> Millis:
        """So long a failed load counts toward `MAX_LOAD_FAILURES` (reference 3.7)."""
        return Millis(self.failure_expiry // 2)

    @property
    def background_slots(self) -> int:
        """Loads at a time beyond which none begins that nobody waits for: all slots but the last, if there are several."""
        return max(1, self.slots - 1)

    @property
    def churn_age(self) -> Millis:
        """A load that nobody waits for evicts nothing used more recently than this (reference 0.2, minChurnAgeMs)."""
        return Millis(10 * max(3 * SECOND, self.load_timeout // 3))

    @property
    def longest_wait(self) -> Millis:
        """A call without a deadline waits at most this for its model (reference 3.8)."""
        return Millis(5 * self.load_timeout)


def policy_of(
    capacity: int, default_size: int, slots: int, load_timeout: int, *, failure_expiry: int = 900_000, drain_limit: int = 120_000
) -> Policy | str:
    """The policy for what a runtime reported (bytes, ms), or what is wrong with it (reference 2.3)."""
    least = max(2 * default_size, min(MIN_CAPACITY, 10 * default_size))
    if slots < 1:
        return f"maxLoadingConcurrency is {slots}; it must be at least 1"
    if default_size < UNIT_BYTES:
        return f"defaultModelSizeInBytes is {default_size}; it must be at least {UNIT_BYTES}"
    if load_timeout < MIN_LOAD_TIMEOUT:
        return f"modelLoadingTimeoutMs is {load_timeout}; it must be at least {MIN_LOAD_TIMEOUT}"
    if capacity < least:
        return f"capacityInBytes is {capacity}; with models of {default_size} bytes it must be at least {least}"
    return Policy(whole_units(capacity), units(default_size), slots, Millis(load_timeout), Millis(failure_expiry), Millis(drain_limit))
