"""Calls at a steady rate, whatever the answers take: what a model's copies have to keep up with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from grpc import aio

from tests.integration.pods.traffic import predicted


@dataclass
class Steady:
    """What became of the calls so far."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def _run(self, addresses: Sequence[str], rates: dict[str, int]) -> None:
        asyncio.run(self._all(addresses, rates))

    async def _all(self, addresses: Sequence[str], rates: dict[str, int]) -> None:
        channels = [aio.insecure_channel(address) for address in addresses]
        try:
            await asyncio.gather(*(self._stream(channels, model, rate) for model, rate in rates.items()))
        finally:
            for channel in channels:
                await channel.close()

    async def _stream(self, channels: Sequence[aio.Channel], model: str, rate: int) -> None:
        loop = asyncio.get_running_loop()
        begun, calls, count = loop.time(), set[asyncio.Task[None]](), 0
        while not self._ended.is_set():
            await asyncio.sleep(max(0.0, begun + count / rate - loop.time()))
            call = asyncio.create_task(self._call(channels[count % len(channels)], model))
            calls.add(call)
            call.add_done_callback(calls.discard)
            count += 1
        await asyncio.gather(*calls)

    async def _call(self, channel: aio.Channel, model: str) -> None:
        try:
            await predicted(channel, model)
            self.answered += 1
        except grpc.RpcError as error:
            self.failures.append(f"{model}: {error.code()}: {error.details()}")
        except AssertionError as error:
            self.failures.append(f"{model}: {error}")


@contextmanager
def steady(addresses: Sequence[str], rates: dict[str, int]) -> Iterator[Steady]:
    """Calls go on while the context lasts; all have their answers when it ends.

    Args:
        addresses: of pods; they take turns.
        rates: calls a second by model.
    """
    made = Steady()
    thread = threading.Thread(target=made._run, args=(addresses, rates))
    thread.start()
    try:
        yield made
    finally:
        made._ended.set()
        thread.join()
