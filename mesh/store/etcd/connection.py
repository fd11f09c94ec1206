"""Calls of etcd: one channel per endpoint, the next one when one fails, the user's token, errors that say what to do."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
from aetcd import rpc
from grpc import aio

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.store.etcd.advice import on_refusal, on_silence
from mesh.store.etcd.configuration import Configuration
from mesh.store.etcd.outage import Outage

log = logging.getLogger(__name__)

OPERATION = 3.5
"""Seconds that a read or write may take (reference 7.4)."""
CONNECT = 4.0
"""Seconds that the first contact may take; a start that cannot succeed ends within five."""
RETURN = 2.5
"""Seconds that a call waits for an etcd that is known to be away: as long as channels take to connect again."""
LOOK = 1.5
"""Seconds that a look for an etcd that is away may take."""
SHORTEST_TRY = 1.0
"""Seconds that one endpoint of several is given at least before the next one is tried."""
_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Codes after which another endpoint, or the same one later, may do better."""
OUT_OF_TIME = "context deadline exceeded"
"""What a node says, as an unknown error, that ran into the call's deadline before the caller did: it is cut off from most others."""
STALE_TOKEN = ("invalid auth token", "auth store is old", "user name is empty")
"""In an answer to a call that may be made again with a new token."""
NO_AUTHENTICATION = "authentication is not enabled"
"""In an answer to who brings a password where none is wanted."""


class Answer(NamedTuple):
    """etcd's answer; `repeated` if an earlier try got none and may have arrived as well."""

    message: Any
    repeated: bool


def options(configuration: Configuration) -> list[tuple[str, Any]]:
    """Options of a channel: keepalive and sizes are those of ModelMesh's client (reference 7.1)."""
    chosen: list[tuple[str, Any]] = [
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 8_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", 256 << 20),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if configuration.authority:
        chosen.append(("grpc.default_authority", configuration.authority))
        if configuration.tls:
            chosen.append(("grpc.ssl_target_name_override", configuration.authority))
    return chosen


def credentials(configuration: Configuration) -> grpc.ChannelCredentials | None:
    """Of a TLS channel; None for plaintext."""
    tls = configuration.tls
    return grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate) if tls else None


class _Silence(Exception):
    """No endpoint answered; has what was said instead."""


class _Endpoint:
    """A channel and the services on it."""

    def __init__(self, address: str, configuration: Configuration) -> None:
        target, secure = f"dns:///{address}", credentials(configuration)
        chosen = options(configuration)
        self.address = address
        self.channel = aio.secure_channel(target, secure, chosen) if secure else aio.insecure_channel(target, chosen)
        self.kv, self.watch, self.auth = rpc.KVStub(self.channel), rpc.WatchStub(self.channel), rpc.AuthStub(self.channel)


class Connection:
    """The endpoints of one etcd, of which one is in use."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._endpoints = [_Endpoint(address, configuration) for address in configuration.endpoints]
        self._current = 0
        self._token = ""
        self._wants_token = bool(configuration.user)
        self.probe = b"\0"
        """Key that is read to find out whether etcd answers."""
        self._asking = asyncio.Lock()
        self.outage = Outage(self.where, self._answers)

    @property
    def where(self) -> str:
        """For messages."""
        return f"etcd at {', '.join(self.configuration.endpoints)} ({self.configuration.source})"

    async def check(self, key: bytes) -> None:
        """Makes first contact and tries to read `key`.

        Raises:
            StoreUnavailable: within five seconds; the message begins with "Problem connecting to etcd".
        """
        self.probe = key
        try:
            await self.call("Range", rpc.RangeRequest(key=key, keys_only=True), within=CONNECT)
        except MeshError as error:
            raise StoreUnavailable(f"Problem connecting to etcd: {error}") from None

    async def call(self, method: str, request: Any, *, within: float = OPERATION) -> Answer:
        """Calls a method of etcd's KV service. A request that must not be done twice has to guard itself: it may be sent again.

        An etcd that is known to be away is not asked until it is found again.

        Raises:
            StoreUnavailable: no endpoint answered within so many seconds, or etcd refuses.
        """
        if not await self.outage.over(min(within, RETURN)):
            raise self.outage.error()
        begun = time.time()
        try:
            answer = await self._ask(method, request, within)
        except _Silence as silence:
            details = str(silence)
            self.outage.begin(begun, details, on_silence(details))
            raise self.outage.error() from None
        self.outage.end()
        return answer

    async def verify(self) -> None:
        """Finds out whether etcd answers; returns soon, later if it does not."""
        with suppress(MeshError):
            await self.call("Range", rpc.RangeRequest(key=self.probe, keys_only=True))

    async def _answers(self) -> bool:
        """Whether etcd answers at the moment, if only with a refusal."""
        try:
            await self._ask("Range", rpc.RangeRequest(key=self.probe, keys_only=True), LOOK)
        except _Silence:
            return False
        except MeshError:
            return True
        return True

    async def _ask(self, method: str, request: Any, within: float) -> Answer:
        end = asyncio.get_running_loop().time() + within
        tries, fresh = 0, False
        while True:
            endpoint = self._endpoints[self._current]
            left = end - asyncio.get_running_loop().time()
            # One of several that is silent must not use up the time in which another would answer.
            share = left if len(self._endpoints) == 1 else min(left, max(SHORTEST_TRY, within / len(self._endpoints)))
            try:
                metadata = await self._metadata(endpoint, share)
                return Answer(await getattr(endpoint.kv, method)(request, timeout=share, metadata=metadata), tries > 0)
            except aio.AioRpcError as error:
                if self._refresh(error) and not fresh:
                    fresh = True
                    continue
                details = error.details() or error.code().name
                if error.code() not in _ELSEWHERE and OUT_OF_TIME not in details:
                    raise self._refused(error) from None
                tries += 1
                self.turn(endpoint.address)
                pause = random.uniform(0.5, 1) * min(_LONGEST_PAUSE, _PAUSE * 2**tries)
                if asyncio.get_running_loop().time() + pause >= end:
                    raise _Silence(details) from None
                await asyncio.sleep(pause)

    async def watch(self, request: Any) -> tuple[str, Any]:
        """Opens a watch on the endpoint in use; its address and the stream of answers. The caller turns away from one that fails.

        Raises:
            AioRpcError: it cannot be opened.
        """
        endpoint = self._endpoints[self._current]
        # A member that lost its leader ends the watch instead of keeping silent.
        metadata = (*await self._metadata(endpoint, OPERATION), ("hasleader", "true"))
        stream = endpoint.watch.Watch(metadata=metadata)
        await stream.write(rpc.WatchRequest(create_request=request))
        return endpoint.address, stream

    def turn(self, failed: str) -> None:
        """Uses the next endpoint, unless another caller already turned away from the failed one."""
        if self._endpoints[self._current].address == failed:
            self._current = (self._current + 1) % len(self._endpoints)

    def forget_token(self) -> None:
        """Has the user authenticated again."""
        self._token = ""

    async def close(self) -> None:
        """Ends all channels."""
        await self.outage.close()
        for endpoint in self._endpoints:
            await endpoint.channel.close()

    async def _metadata(self, endpoint: _Endpoint, within: float) -> tuple[tuple[str, str], ...]:
        if self._wants_token and not self._token:
            async with self._asking:
                if not self._token:
                    await self._authenticate(endpoint, within)
        return (("token", self._token),) if self._token else ()

    async def _authenticate(self, endpoint: _Endpoint, within: float) -> None:
        request = rpc.AuthenticateRequest(name=self.configuration.user, password=self.configuration.password)
        try:
            self._token = (await endpoint.auth.Authenticate(request, timeout=within)).token
        except aio.AioRpcError as error:
            if NO_AUTHENTICATION not in (error.details() or ""):
                raise
            log.warning("%s: a user is configured, but etcd asks for none", self.where)
            self._wants_token = False

    def _refresh(self, error: aio.AioRpcError) -> bool:
        """Whether the call may be made again with a new token."""
        if self.configuration.user and any(text in (error.details() or "") for text in STALE_TOKEN):
            self._token, self._wants_token = "", True
            return True
        return False

    def _refused(self, error: aio.AioRpcError) -> StoreUnavailable:
        """An answer that trying again does not change."""
        details = error.details() or error.code().name
        return StoreUnavailable(f"{self.where} refuses: {details}; {on_refusal(error.code(), details, self.configuration.user)}")
