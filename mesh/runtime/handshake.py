"""The start of life with a runtime: found, waited for until READY, its figures taken once and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
from grpc import aio

from mesh.core.errors import RuntimeUnavailable
from mesh.core.policy import Policy, policy_of
from mesh.protocols import model_runtime_pb2 as pb
from mesh.runtime.channels import channel, describe
from mesh.runtime.spi import LEGACY_SERVICE, SERVICE, Spi

POLL = 0.5
"""Seconds between rounds over the candidates."""

CALL_TIMEOUT = 30.0
"""Seconds for one status call; a runtime unloads all that it holds before it answers READY."""

Status = pb.RuntimeStatusResponse


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that is ready.

    Attributes:
        methods: allowed methods and where each takes the model id; empty allows all.
        allow_any: whether methods beside those are allowed.
        limits_concurrency: whether each copy takes a limited number of calls at a time.
    """

    spi: Spi
    address: str
    policy: Policy
    methods: Mapping[str, tuple[int, ...]]
    allow_any: bool
    limits_concurrency: bool

    def injection(self, method: str) -> tuple[int, ...] | None:
        """Where `method` takes the model id: a path, empty for nowhere; None if it is not allowed."""
        if not self.methods or method in self.methods:
            return self.methods.get(method, ())
        return () if self.allow_any else None


async def meet(
    addresses: Sequence[str],
    timeout: float,
    *,
    failure_expiry: int,
    drain_limit: int,
    waiting: Callable[[str], None],
    connect: Callable[[str, int], aio.Channel] = channel,
) -> Runtime:
    """Polls the candidates in turn until one is READY; the others' channels are closed.

    Args:
        addresses: gRPC targets.
        timeout: seconds.
        failure_expiry, drain_limit: milliseconds, for the policy.
        waiting: told why there is no runtime yet, whenever that changes.
        connect: makes a channel to an address that takes messages of so many bytes.

    Raises:
        RuntimeUnavailable: none was ready in time, or one is failing or reports impossible figures; says which and why.
    """
    channels = {address: connect(address, 4 * 1024 * 1024) for address in addresses}
    faults: dict[str, str] = {}
    try:
        async with asyncio.timeout(timeout):
            while True:
                for address, candidate in channels.items():
                    answer = await _ask(candidate, timeout)
                    if isinstance(answer, tuple):
                        del channels[address]
                        return _runtime(address, candidate, *answer, failure_expiry, drain_limit)
                    if faults.get(address) != answer:
                        faults[address] = answer
                        waiting(f"runtime at {address}: {answer}")
                await asyncio.sleep(POLL)
    except TimeoutError:
        causes = "; ".join(f"{address}: {fault}" for address, fault in faults.items())
        raise RuntimeUnavailable(f"Model server container did not start after {timeout:g} seconds ({causes})") from None
    finally:
        for unused in channels.values():
            await unused.close()


async def _ask(candidate: aio.Channel, timeout: float) -> tuple[str, Status] | str:
    """Under which name the runtime is READY, with its figures; or why it is not yet."""
    for service in (SERVICE, LEGACY_SERVICE):
        call: aio.UnaryUnaryMultiCallable[pb.RuntimeStatusRequest, Status] = candidate.unary_unary(
            f"/{service}/runtimeStatus", pb.RuntimeStatusRequest.SerializeToString, Status.FromString
        )
        try:
            answer = await call(pb.RuntimeStatusRequest(), timeout=min(CALL_TIMEOUT, timeout))
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                continue
            return describe(error.code(), error.details())
        if answer.status == Status.READY:
            return service, answer
        if answer.status != Status.STARTING:
            raise RuntimeUnavailable(f"the runtime reports {Status.Status.Name(answer.status)}; see its log")
        return "starting"
    raise RuntimeUnavailable(f"the runtime offers neither {SERVICE} nor {LEGACY_SERVICE}; is the port that of its management interface?")


def _runtime(address: str, found: aio.Channel, service: str, status: Status, failure_expiry: int, drain_limit: int) -> Runtime:
    policy = policy_of(
        status.capacityInBytes,
        status.defaultModelSizeInBytes,
        status.maxLoadingConcurrency,
        status.modelLoadingTimeoutMs,
        failure_expiry=failure_expiry,
        drain_limit=drain_limit,
    )
    if isinstance(policy, str):
        raise RuntimeUnavailable(f"the runtime at {address} reports impossible figures: {policy}")
    methods = {name.removeprefix("/"): tuple(info.idInjectionPath) for name, info in status.methodInfos.items()}
    spi = Spi(found, service, policy.load_timeout)
    return Runtime(spi, address, policy, methods, status.allowAnyMethod, status.limitModelConcurrency)
