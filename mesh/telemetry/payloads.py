"""Payload processors (reference 10.3): what clients ask and are answered, told to others without any bearing on the calls."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.core.errors import Code

_log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str | bytes], ...]

MOST_BYTES = 256 * 1024 * 1024
"""Of payloads that wait, whatever their number: they are kept in memory."""
DRAIN = 5.0
"""Seconds at the end in which what waits is still processed."""
TELL_EVERY = 60.0
"""Seconds between two lines in the log about payloads that were dropped, or about one processor's failures (reference 10.3)."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One message of a call.

    Attributes:
        id: the same for all messages of a call.
        number: counts the messages of one kind in a call, from 0.
        model: the concrete model; None if the call names several, or none that exists.
        alias: the name that the client called it by; empty if that is the model's.
        method: pkg.Service/Method.
        headers: of the request, or of the response.
        data: the message as it travels; None if there is none.
        status: how the call ended, or has gone so far; None means that this is a request.
        at: epoch seconds.
    """

    id: str
    number: int
    model: str | None
    alias: str
    method: str
    headers: Headers
    data: bytes | None
    status: Code | None
    at: float

    @property
    def kind(self) -> str:
        """`request` or `response`."""
        return "request" if self.status is None else "response"

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.data or b"")


class Processor(Protocol):
    """Does something with payloads, in a thread of its own."""

    @property
    def name(self) -> str:
        """For the log."""
        ...

    def process(self, payload: Payload) -> None:
        """Takes one payload, or leaves it if it does not match.

        Raises:
            Exception: it could not; that is logged and counted.
        """
        ...

    def close(self) -> None:
        """Ends connections."""
        ...


class _Unusable:
    """Stands for processors that could not be made: fails for every payload.

    Args:
        why: the reason.
    """

    name = "MM_PAYLOAD_PROCESSORS"

    def __init__(self, why: str) -> None:
        self._why = why

    def process(self, payload: Payload) -> None:
        """As of `Processor`."""
        raise RuntimeError(f"{payload.kind} of {payload.method}: {self._why}")

    def close(self) -> None:
        """Nothing to end."""


class _Lines:
    """One line in the log about many happenings: the first at once, then their number at most once a minute."""

    def __init__(self, text: str) -> None:
        self._text, self._since, self._next = text, 0, 0.0

    def note(self, why: str) -> None:
        self._since += 1
        if time.monotonic() >= self._next:
            _log.warning(self._text, self._since, why)
            self._since, self._next = 0, time.monotonic() + TELL_EVERY


class _Worker:
    """One thread and the payloads that wait for it, in order.

    Args:
        make: makes its processors.

    Attributes:
        wake: set when there is something new.
        ending: nothing more is taken; the thread ends with the last one.
    """

    def __init__(self, make: Callable[[], Sequence[Processor]]) -> None:
        self.waiting: deque[Payload] = deque()
        self.wake = threading.Event()
        self.ending = False
        self.make = make


class Payloads:
    """All processors of a pod. A full queue drops what comes; nothing here fails or delays a call.

    Args:
        make: makes the processors, once for each thread, for they run in several at a time.
        threads: messages of one call go to one thread, so that they stay in order.
        capacity: payloads that wait, in all threads together.

    Attributes:
        processed, failed, dropped: payloads so far; failures by each processor count.
    """

    def __init__(self, make: Callable[[], Sequence[Processor]], threads: int, capacity: int) -> None:
        self._capacity, self._waiting, self._bytes = capacity, 0, 0
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._calls = itertools.count()
        self._start = secrets.token_hex(4)
        self._workers = [_Worker(make) for _ in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(worker,), name="payloads", daemon=True) for worker in self._workers]
        self._drops = _Lines("%d payloads dropped: %s")
        self._failures: dict[str, _Lines] = {}
        self.processed = self.failed = self.dropped = 0
        for thread in self._threads:
            thread.start()

    def counts(self) -> dict[str, float]:
        """Payloads by what became of them."""
        return {"processed": self.processed, "failed": self.failed, "dropped": self.dropped}

    def call(self, method: str, headers: Headers) -> Conversation:
        """A call begins at a door of this pod."""
        number = next(self._calls)
        worker = self._workers[number % len(self._workers)]
        return Conversation(lambda payload: self._offer(worker, payload), f"{self._start}-{number}", method, headers)

    def _offer(self, worker: _Worker, payload: Payload) -> None:
        with self._lock:
            full = self._waiting >= self._capacity or self._bytes + payload.size > MOST_BYTES
            if not full and not worker.ending:
                self._waiting += 1
                self._bytes += payload.size
                worker.waiting.append(payload)
        if full or worker.ending:
            self.dropped += 1
            self._drops.note(f"{self._capacity} wait (MM_PAYLOAD_PROCESSORS_CAPACITY); the processors are too slow")
        else:
            worker.wake.set()

    async def end(self, within: float = DRAIN) -> None:
        """Processes what waits, for some seconds at most."""
        for worker in self._workers:
            worker.ending = True
            worker.wake.set()
        over = time.monotonic() + within
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, over - time.monotonic()))
        if self._waiting:
            _log.warning("%d payloads are not processed: the pod ends", self._waiting)

    # Threads

    def _run(self, worker: _Worker) -> None:
        try:
            processors = worker.make()
        except Exception as error:
            # As with certificates that cannot be read; the pod serves all the same.
            _log.error("no payload is processed: %s", error)
            processors = [_Unusable(str(error))]
        while True:
            worker.wake.wait()
            worker.wake.clear()
            while worker.waiting:
                payload = worker.waiting.popleft()
                self._process(processors, payload)
                with self._lock:
                    self._waiting -= 1
                    self._bytes -= payload.size
            if worker.ending and not worker.waiting:
                break
        for processor in processors:
            processor.close()

    def _process(self, processors: Sequence[Processor], payload: Payload) -> None:
        for processor in processors:
            try:
                processor.process(payload)
            except Exception as error:
                self._note_failure(processor.name, str(error) or type(error).__name__)
        with self._lock:
            self.processed += 1

    def _note_failure(self, processor: str, why: str) -> None:
        with self._telling:
            self.failed += 1
            if processor not in self._failures:
                self._failures[processor] = _Lines(f"payload processor {processor}: %d failures, the last: %s")
            self._failures[processor].note(why)


class Conversation:
    """The messages of one call. What is asked before its model is known waits for that."""

    def __init__(self, offer: Callable[[Payload], None], call: str, method: str, headers: Headers) -> None:
        self._offer, self._id, self._method, self._asked_with = offer, call, method.removeprefix("/"), headers
        self._answered_with: Headers = ()
        self._model: str | None = None
        self._alias = ""
        self._known = False
        self._held: list[bytes] = []
        self._requests = self._responses = 0

    def about(self, model: str | None, alias: str = "") -> None:
        """The model is known, or that there is none."""
        self._model, self._alias = model, alias if alias != model else ""
        self._known = True
        held, self._held = self._held, []
        for data in held:
            self.asked(data)

    def asked(self, data: bytes) -> None:
        """The client sent a message."""
        if not self._known:
            self._held.append(data)
            return
        self._tell(self._requests, self._asked_with, data, None)
        self._requests += 1

    def answered(self, data: bytes, headers: Headers) -> None:
        """It got one."""
        self._settle()
        self._answered_with = headers
        self._tell(self._responses, headers, data, Code.OK)
        self._responses += 1

    def ended(self, code: Code) -> None:
        """The call is over; a failure, or an end without a message, is a response without data."""
        self._settle()
        if code is not Code.OK or not self._responses:
            self._tell(self._responses, self._answered_with, None, code)

    def _settle(self) -> None:
        if not self._known:
            self.about(None)

    def _tell(self, number: int, headers: Headers, data: bytes | None, status: Code | None) -> None:
        self._offer(Payload(self._id, number, self._model, self._alias, self._method, headers, data, status, time.time()))
