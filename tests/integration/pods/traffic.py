"""Calls of many models from many clients over all pods, in the background; every failure is kept."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from grpc import aio

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import inference_pb2_grpc as v2_grpc
from tests.support.client import to
from tests.support.waiting import until

LIMIT = 60.0
"""Seconds that each call gets."""
BALANCED = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "inference.GRPCInferenceService"}}
)
"""gRPC's own balancing with its own health checks: a pod that says that it leaves gets no further calls from such a client."""


Ask = Callable[[aio.Channel, str], Awaitable[None]]
"""Calls a model by its id within LIMIT, and checks the answer."""


async def predicted(channel: aio.Channel, model: str) -> None:
    """Asks the scripted runtime, by a method that is known to have one answer: such a call is made again unless all of that came."""
    stub = v2_grpc.GRPCInferenceServiceStub(channel)
    answer = await stub.ModelInfer(v2.ModelInferRequest(model_name=model, id=model), timeout=LIMIT, metadata=to(model))
    assert answer.id == model


@dataclass
class Traffic:
    """What happened so far.

    Attributes:
        ask: how a model is called.
        answered: answers by model.
        failures: what went wrong, as text.
        pause: seconds between a caller's calls.
    """

    ask: Ask = predicted
    pause: float = 0.0
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def total(self) -> int:
        return self.answered.total()

    def reaches(self, more: int) -> None:
        """Returns after so many further answers."""
        goal = self.total + more
        until(lambda: self.total >= goal or self.failures, f"{more} more answers", within=240)

    def _run(self, addresses: Sequence[str], models: Sequence[str], weights: Sequence[float], callers: int, seed: int) -> None:
        asyncio.run(self._all(addresses, models, weights, callers, seed))

    async def _all(self, addresses: Sequence[str], models: Sequence[str], weights: Sequence[float], callers: int, seed: int) -> None:
        options = (("grpc.service_config", BALANCED), ("grpc.use_local_subchannel_pool", 1))
        target = f"ipv4:{','.join(addresses)}"
        channels = [aio.insecure_channel(target, options=options) for _ in range(4)]
        try:
            await asyncio.gather(
                *(self._caller(channels[number % 4], models, weights, random.Random(seed + number)) for number in range(callers))
            )
        finally:
            for channel in channels:
                await channel.close()

    async def _caller(self, channel: aio.Channel, models: Sequence[str], weights: Sequence[float], dice: random.Random) -> None:
        while not self._ended.is_set():
            (model,) = dice.choices(models, weights)
            try:
                await self.ask(channel, model)
                self.answered[model] += 1
            except grpc.RpcError as error:
                self.failures.append(f"{model}: {error.code()}: {error.details()}")
            except AssertionError as error:
                self.failures.append(f"{model}: {error}")
            await asyncio.sleep(self.pause)


@contextmanager
def traffic(
    addresses: Sequence[str],
    models: Sequence[str],
    *,
    zipf: float = 0.0,
    callers: int = 16,
    pause: float = 0.0,
    seed: int = 1,
    ask: Ask = predicted,
) -> Iterator[Traffic]:
    """Calls go on while the context lasts.

    Args:
        addresses: of all pods; each caller takes them in turn.
        models: the first is the most popular one, if `zipf` is not 0.
        zipf: exponent of the popularity.
        callers: calls at a time.
        pause: seconds between a caller's calls. Without, they take all of the processor that something else is waited for with.
        seed: of all choices.
        ask: how a model is called.
    """
    weights = [1 / (rank + 1) ** zipf for rank in range(len(models))]
    made = Traffic(ask, pause)
    thread = threading.Thread(target=made._run, args=(addresses, models, weights, callers, seed))
    thread.start()
    try:
        yield made
    finally:
        made._ended.set()
        thread.join()
