"""The machine of one copy: what each event does in each state.

`RULES[state, type(event)]` is all of it. A rule moves the copy with the verbs of `Cache`; slots and room are looked at once after
each event. A missing pair is a bug and raises with the copy's story.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.core import errors
from mesh.core.cache.cache import Cache
from mesh.core.cache.copies import Copy, State
from mesh.core.errors import Code
from mesh.core.events import (
    CopySpared,
    EditDone,
    EditFailed,
    EditRefused,
    LastCallEnded,
    LoadFailed,
    LoadSucceeded,
    ModelDeleted,
    PodLeaves,
    RuntimeForgot,
    SizeMeasured,
    SizePredicted,
    TimePassed,
    UnloadFailed,
    UnloadSucceeded,
)
from mesh.core.instructions import Abandon, ChangeRecord, EndCalls, LoadElsewhere, MeasureSize, Outcome, UnloadModel
from mesh.core.policy import DOUBT, UNLOAD_AFTER_FAILURE, UNLOAD_AFTER_TIMEOUT, UNLOAD_RETRIES, UNLOAD_RETRY_FIRST, UNLOAD_RETRY_NEXT
from mesh.core.registry.edits import MarkReady, RecordFailure, SettleCopy
from mesh.core.units import Millis, bytes_of

Rule = Callable[[Cache, Copy, Any], None]

_NOTHING_ATTEMPTED = frozenset({Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION})
"""Codes of a load that mean no memory is held (the contract of `loadModel`)."""


# Registering


def _registered(cache: Cache, copy: Copy, event: EditDone) -> None:
    copy.registered = True
    _enqueue(cache, copy, "stands in the registry")


def _unregistered(cache: Cache, copy: Copy, event: EditFailed) -> None:
    copy.registered = True
    _enqueue(cache, copy, f"the registry does not answer: {event.error}")


def _predicted(cache: Cache, copy: Copy, event: SizePredicted) -> None:
    if event.size is not None:
        cache.weigh(copy, event.size)
    copy.predicted = True
    _enqueue(cache, copy, f"predicted at {bytes_of(copy.weight)} bytes")


def _enqueue(cache: Cache, copy: Copy, why: str) -> None:
    """A copy queues when both its record and its predicted size are settled; one that cannot fit even alone fails at once."""
    if not (copy.registered and copy.predicted):
        return
    if copy.weight <= cache.policy.room:
        cache.to(copy, State.QUEUED, why)
        return
    size, room = bytes_of(copy.weight), bytes_of(cache.policy.room)
    _fail(cache, copy, errors.LoadFailed(f"Predicted size of {copy.id.model} is larger than total effective capacity of {room}: {size}"))
    cache.to(copy, State.GONE, "larger than the capacity")


def _refused(cache: Cache, copy: Copy, event: EditRefused) -> None:
    quicker = isinstance(event.error, errors.NotHere)
    cache.release(copy, Outcome.AGAIN if quicker else Outcome.FAILED, None if quicker else event.error)
    cache.to(copy, State.GONE, event.error.message)


# Before loading


def _dropped(cache: Cache, copy: Copy, event: ModelDeleted | PodLeaves) -> None:
    cache.release(copy, Outcome.AGAIN)
    cache.to(copy, State.GONE, _why(event))


# Loading


def _loaded(cache: Cache, copy: Copy, event: LoadSucceeded) -> None:
    copy.loaded_at, copy.concurrency, copy.doubt = cache.now, event.concurrency, None
    cache.failures.clear(copy.id.model)
    if event.size is None:
        cache.to(copy, State.SIZING, "loaded; its size is asked for")
        cache.order(MeasureSize(copy.id))
    else:
        cache.weigh(copy, event.size)
        cache.to(copy, State.READY, f"loaded, {bytes_of(copy.weight)} bytes")
    # Those who waited count as calls before room is looked at: a copy that is new and idle would be the next victim.
    cache.release(copy, Outcome.ENTERED)
    cache.change(MarkReady(copy.id.model, cache.pod, copy.created, cache.now))
    cache.make_fit(copy)


def _load_failed(cache: Cache, copy: Copy, event: LoadFailed) -> None:
    kind = errors.LoadTimedOut if event.timed_out else errors.LoadFailed
    error = kind(event.message)
    if event.code is Code.UNAVAILABLE and cache.paused:
        cache.succeed(copy, "the runtime was lost while loading")
        cache.send_away(cache.current[copy.id.model])
        return
    if event.code is Code.UNAVAILABLE and cache.watched:
        copy.doubt = error
        cache.wake_at(copy, Millis(cache.now + DOUBT))
        cache.stories.tell(copy.id.model, cache.now, f"the runtime did not answer the load: {event.message}")
        return
    _fail(cache, copy, error)
    if event.code in _NOTHING_ATTEMPTED:
        cache.to(copy, State.GONE, f"load refused: {error}")
    else:
        cache.unload(copy, f"load failed: {error}", UNLOAD_AFTER_TIMEOUT if event.timed_out else UNLOAD_AFTER_FAILURE)


def _doubt_ended(cache: Cache, copy: Copy, event: TimePassed) -> None:
    assert copy.doubt is not None, "nothing else is timed while a copy loads"
    _fail(cache, copy, copy.doubt)
    cache.unload(copy, f"load failed: {copy.doubt}", UNLOAD_AFTER_FAILURE)


def _fail(cache: Cache, copy: Copy, error: errors.LoadFailed) -> None:
    model = copy.id.model
    failure = cache.failures.record(copy, error, cache.now, alone=cache.alone(copy.info))
    cache.change(RecordFailure(model, cache.pod, copy.created, cache.now, error.message, copy.last_used))
    cache.release(copy, Outcome.FAILED, error)
    cache.stories.tell(
        model, cache.now, f"load failed {failure.tries} times in a row: {error}; next try in {failure.retry_at - cache.now} ms"
    )
    if not cache.alone(copy.info):
        cache.order(LoadElsewhere(model, copy.last_used))


def _load_abandoned(cache: Cache, copy: Copy, event: ModelDeleted | PodLeaves) -> None:
    cache.order(Abandon(copy.id))
    cache.unload(copy, f"{_why(event)} while it was loading", UNLOAD_AFTER_TIMEOUT)


def _why(event: ModelDeleted | PodLeaves) -> str:
    return "its model was deleted" if isinstance(event, ModelDeleted) else "the pod is leaving"


# Serving


def _sized(cache: Cache, copy: Copy, event: SizeMeasured) -> None:
    if event.size is not None:
        cache.weigh(copy, event.size)
    cache.to(copy, State.READY, f"{bytes_of(copy.weight)} bytes")
    cache.make_fit(copy)


def _deleted(cache: Cache, copy: Copy, event: ModelDeleted) -> None:
    cache.retire(copy, "its model was deleted")


def _forgotten(cache: Cache, copy: Copy, event: RuntimeForgot) -> None:
    # The unload that follows clears what an adapter keeps for the model; a new load waits for it.
    cache.deregister(copy)
    cache.unload(copy, "the runtime does not know it")


def _spared(cache: Cache, copy: Copy, event: CopySpared) -> None:
    if not copy.registered:
        # Told twice: the first time it is being written.
        return
    # Until the record is written it says nothing of this copy that would have to be put right.
    copy.registered = False
    cache.stories.tell(copy.id.model, cache.now, f"to be given back: {event.why}")
    cache.order(ChangeRecord(event.edit, copy.id))


def _given_back(cache: Cache, copy: Copy, event: EditDone) -> None:
    cache.retire(copy, "given back")


def _not_given_back(cache: Cache, copy: Copy, event: EditRefused | EditFailed) -> None:
    copy.registered = True
    cache.stories.tell(copy.id.model, cache.now, f"kept: {event.error}")
    if isinstance(event, EditRefused):
        cache.change(SettleCopy(copy.id.model, cache.pod, copy.created, copy.loaded_at, False, copy.last_used))


# Leaving


def _idle(cache: Cache, copy: Copy, event: LastCallEnded) -> None:
    cache.unload(copy, "its last call ended")


def _drained(cache: Cache, copy: Copy, event: TimePassed) -> None:
    cache.order(EndCalls(copy.id))
    cache.unload(copy, f"{copy.running} calls outlived the drain limit")


def _forgotten_leaving(cache: Cache, copy: Copy, event: RuntimeForgot) -> None:
    if copy.state is State.DRAINING:
        cache.unload(copy, "the runtime does not know it")


def _unloaded(cache: Cache, copy: Copy, event: UnloadSucceeded) -> None:
    cache.to(copy, State.GONE, "unloaded")


def _unload_failed(cache: Cache, copy: Copy, event: UnloadFailed) -> None:
    copy.tries += 1
    pause = UNLOAD_RETRY_FIRST if copy.tries == 1 else UNLOAD_RETRY_NEXT
    if copy.tries >= UNLOAD_RETRIES:
        # The memory stays counted as leaving: it is, for all that is known, still held.
        pause = cache.policy.failure_expiry
    cache.wake_at(copy, Millis(cache.now + pause))
    heir = cache.current.get(copy.id.model)
    if heir is not None and (not_unloaded := cache.not_unloaded(heir.id.model, heir.info)):
        cache.refuse(heir, not_unloaded)
    cache.stories.tell(copy.id.model, cache.now, f"unload failed {copy.tries} times: {event.message}; next try in {pause} ms")


def _unload_again(cache: Cache, copy: Copy, event: TimePassed) -> None:
    cache.order(UnloadModel(copy.id))


def _nothing(cache: Cache, copy: Copy, event: object) -> None:
    """The event is about something the copy is past."""


_BEFORE = (State.REGISTERING, State.QUEUED, State.CLAIMING)
_SERVING = (State.SIZING, State.READY)
_LEAVING = (State.DRAINING, State.UNLOADING)

RULES: dict[tuple[State, type[object]], Rule] = {
    (State.REGISTERING, EditDone): _registered,
    (State.REGISTERING, EditFailed): _unregistered,
    (State.REGISTERING, EditRefused): _refused,
    (State.REGISTERING, SizePredicted): _predicted,
    **{(state, ModelDeleted): _dropped for state in _BEFORE},
    (State.LOADING, ModelDeleted): _load_abandoned,
    **{(state, PodLeaves): _dropped for state in _BEFORE},
    (State.LOADING, PodLeaves): _load_abandoned,
    **{(state, ModelDeleted): _deleted for state in _SERVING},
    **{(state, ModelDeleted): _nothing for state in _LEAVING},
    (State.LOADING, LoadSucceeded): _loaded,
    (State.LOADING, LoadFailed): _load_failed,
    (State.LOADING, TimePassed): _doubt_ended,
    (State.UNLOADING, LoadSucceeded): _nothing,
    (State.UNLOADING, LoadFailed): _nothing,
    (State.SIZING, SizeMeasured): _sized,
    **{(state, SizeMeasured): _nothing for state in _LEAVING},
    **{(state, RuntimeForgot): _forgotten for state in _SERVING},
    (State.READY, CopySpared): _spared,
    (State.READY, EditDone): _given_back,
    **{(State.READY, answer): _not_given_back for answer in (EditRefused, EditFailed)},
    **{(state, late): _nothing for state in _LEAVING for late in (CopySpared, EditDone, EditRefused, EditFailed)},
    **{(state, RuntimeForgot): _forgotten_leaving for state in _LEAVING},
    (State.DRAINING, LastCallEnded): _idle,
    (State.UNLOADING, LastCallEnded): _nothing,
    (State.DRAINING, TimePassed): _drained,
    (State.UNLOADING, TimePassed): _unload_again,
    (State.UNLOADING, UnloadSucceeded): _unloaded,
    (State.UNLOADING, UnloadFailed): _unload_failed,
}
