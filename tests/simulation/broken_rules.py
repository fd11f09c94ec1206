"""Rules of the mesh, broken on purpose one at a time: schedules that do not notice are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from mesh.core.cache.cache import Cache
from mesh.core.cache.copies import Copy
from mesh.core.cache.space import Space
from mesh.core.errors import MeshError
from mesh.core.ids import ModelId
from mesh.core.instructions import Outcome
from mesh.core.routing.journey import Journey
from mesh.core.units import Units
from mesh.pod.record_writer import RecordWriter

Break = Callable[[], Any]


def _waiters_are_forgotten() -> Any:
    """Who waits for a copy that comes to nothing is not told."""
    release = Cache.release

    def forgetting(cache: Cache, copy: Copy, outcome: Outcome, error: MeshError | None = None) -> None:
        if outcome is Outcome.ENTERED:
            release(cache, copy, outcome, error)

    return patch.object(Cache, "release", forgetting)


def _unloads_take_no_time() -> Any:
    """A load starts although its victim still holds its memory, and the reserve does not cover that."""

    def careless(space: Space, weight: Units) -> bool:
        return space.granted + weight <= space.capacity

    return patch.object(Space, "may_start", careless)


def _nobody_drains() -> Any:
    """A copy is unloaded under the calls that run on it."""

    def brutal(cache: Cache, copy: Copy, why: str) -> None:
        cache.unload(copy, why)

    return patch.object(Cache, "retire", brutal)


def _nothing_is_made_good() -> Any:
    """What the store did not take is never written."""

    def careless(writer: RecordWriter, model: ModelId) -> None:
        pass

    return patch.object(RecordWriter, "_miss", careless)


def _tried_holders_are_tried_again() -> Any:
    """A call goes to the holder that has just failed it, until its tries are used up."""

    def forgetful(journey: Journey, *_: Any) -> None:
        pass

    return patch.object(Journey, "_exclude", forgetful)


def _those_who_waited_do_not_count() -> Any:
    """Callers that waited do not count as calls of the copy that they enter."""
    release = Cache.release

    def careless(cache: Cache, copy: Copy, outcome: Outcome, error: MeshError | None = None) -> None:
        calls = copy.calls
        release(cache, copy, outcome, error)
        copy.calls = calls

    return patch.object(Cache, "release", careless)


def _evicted_copies_stay_in_the_record() -> Any:
    """Others go on being sent to a copy that is evicted."""
    return patch.object(Cache, "deregister", lambda cache, copy: None)


BROKEN: dict[str, Break] = {
    "waiters are forgotten": _waiters_are_forgotten,
    "unloads take no time": _unloads_take_no_time,
    "nobody drains": _nobody_drains,
    "nothing is made good": _nothing_is_made_good,
    "tried holders are tried again": _tried_holders_are_tried_again,
    "those who waited do not count": _those_who_waited_do_not_count,
    "evicted copies stay in the record": _evicted_copies_stay_in_the_record,
}


@contextmanager
def broken(rule: str) -> Iterator[None]:
    """A mesh with one broken rule."""
    with BROKEN[rule]():
        yield
