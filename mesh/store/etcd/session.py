"""Keys that live as long as this process: one lease, kept alive by a thread of its own, so that a busy event loop costs no membership."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
from aetcd import rpc

from mesh.core.errors import StoreUnavailable
from mesh.store.etcd.configuration import Configuration
from mesh.store.etcd.connection import NO_AUTHENTICATION, OPERATION, STALE_TOKEN, credentials, options
from mesh.store.etcd.seldom import Seldom

log = logging.getLogger(__name__)

TTL = 25
"""Seconds that the keys outlive a process that crashes (reference 7.5)."""
_BEATS = 5
"""The lease is kept alive so many times in its life."""
_LONGEST_PAUSE = 2.0


class _Expired(Exception):
    """The lease is gone, and the keys with it."""


class _Endpoint:
    """Blocking calls on one endpoint."""

    def __init__(self, address: str, configuration: Configuration) -> None:
        target, secure = f"dns:///{address}", credentials(configuration)
        chosen = options(configuration)
        self.address = address
        self.channel = grpc.secure_channel(target, secure, chosen) if secure else grpc.insecure_channel(target, chosen)
        self.kv, self.lease, self.auth = rpc.KVStub(self.channel), rpc.LeaseStub(self.channel), rpc.AuthStub(self.channel)


class Session:
    """The keys of one process. Its thread starts with the first key."""

    def __init__(self, configuration: Configuration, *, ttl: int = TTL) -> None:
        self._configuration, self._ttl = configuration, ttl
        self._values: dict[bytes, bytes] = {}
        self._unwritten: dict[bytes, list[Future[None]]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._lease = 0
        self._beat_at = 0.0
        self._lives_until = 0.0
        self._doubted = float("-inf")
        self._seldom = Seldom()
        self.on_failure: Callable[[], object] = lambda: None
        """Called by the session's thread when etcd does not do what it asks."""
        self._endpoints: list[_Endpoint] = []
        self._token: tuple[tuple[str, str], ...] = ()
        self._thread: threading.Thread | None = None

    @property
    def lease(self) -> int:
        """The lease's id; 0 while there is none."""
        return self._lease

    @property
    def certain(self) -> float:
        """Seconds for which the lease is certain to live; not above 0 if it may be gone."""
        return self._lives_until - time.monotonic() if self._lease and not self._closing else 0.0

    def has(self, key: bytes) -> bool:
        """Whether it is one of this session's keys."""
        return key in self._values

    def doubtful(self, within: float) -> bool:
        """Whether the lease may have ended, or may have so many seconds ago: then others' may have as well."""
        if self._lives_until == 0.0:
            return False
        return time.monotonic() > self._lives_until or time.monotonic() - self._doubted < within

    async def put(self, key: bytes, value: bytes) -> None:
        """Writes a key, and again whenever it was lost, until the session is closed.

        Raises:
            StoreUnavailable: it is not written yet; it will be as soon as etcd answers.
        """
        written = asyncio.wrap_future(self._ask(key, value))
        try:
            await asyncio.wait_for(written, OPERATION)
        except TimeoutError:
            shown = key.decode(errors="replace")
            raise StoreUnavailable(f"etcd ({self._configuration.source}) does not answer; {shown} is written as soon as it does") from None

    def renew(self, key: bytes) -> None:
        """Has a key that somebody else removed written again; without effect for one that was never put."""
        with self._changed:
            if key in self._values:
                self._unwritten.setdefault(key, [])
                self._changed.notify()

    async def close(self) -> None:
        """Removes the keys, if etcd answers soon; otherwise they go with the lease."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread:
            await asyncio.to_thread(self._thread.join)

    def _ask(self, key: bytes, value: bytes) -> Future[None]:
        future: Future[None] = Future()
        with self._changed:
            self._values[key] = value
            self._unwritten.setdefault(key, []).append(future)
            if not self._thread:
                self._endpoints = [_Endpoint(address, self._configuration) for address in self._configuration.endpoints]
                self._thread = threading.Thread(target=self._run, name="etcd-lease", daemon=True)
                self._thread.start()
            self._changed.notify()
        return future

    def _run(self) -> None:
        failures = 0
        while not self._closing:
            try:
                self._step()
                self._seldom.over()
                failures, pause = 0, self._beat_at - time.monotonic()
            except _Expired:
                log.warning("the lease of this pod expired in etcd; its records are written again")
                self._lease, pause = 0, 0.0
            except Exception as error:
                failures += 1
                self.on_failure()
                # Whatever it is, a pod without this thread loses its membership for good.
                known = isinstance(error, grpc.RpcError)
                where, why = self._endpoints[0].address, _details(error) if isinstance(error, grpc.RpcError) else error
                log.log(self._seldom.level(), "keeping the lease of this pod at etcd %s: %s", where, why, exc_info=not known)
                self._endpoints.append(self._endpoints.pop(0))
                self._token = ()
                pause = random.uniform(0.5, 1) * min(_LONGEST_PAUSE, 0.05 * 2 ** min(failures, 10))
            self._rest(pause, until_changed=not failures)
        self._end()

    def _rest(self, pause: float, *, until_changed: bool) -> None:
        with self._changed:
            if pause > 0 and not self._closing and not (until_changed and self._unwritten):
                self._changed.wait_for(lambda: self._closing or (until_changed and bool(self._unwritten)), pause)

    def _step(self) -> None:
        """Does what is due: gets a lease, keeps it alive, writes keys."""
        if not self._lease:
            asked = time.monotonic()
            self._lease = self._call(lambda here: here.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=self._ttl)).ID
            self._lives(asked)
            self._beat_at = time.monotonic() + self._ttl / _BEATS
            with self._changed:
                for key in self._values:
                    self._unwritten.setdefault(key, [])
        if time.monotonic() >= self._beat_at:
            self._beat()
            self._beat_at = time.monotonic() + self._ttl / _BEATS
        while self._unwritten and not self._closing:
            self._write(next(iter(self._unwritten)))

    def _beat(self) -> None:
        request, asked = rpc.LeaseKeepAliveRequest(ID=self._lease), time.monotonic()
        answer = self._call(lambda here: lambda one, **call: next(here.lease.LeaseKeepAlive(iter([one]), **call)), request)
        if answer.TTL <= 0:
            raise _Expired
        self._lives(asked)

    def _lives(self, asked: float) -> None:
        now = time.monotonic()
        if 0.0 < self._lives_until < now:
            self._doubted = now
        self._lives_until = asked + self._ttl

    def _write(self, key: bytes) -> None:
        with self._changed:
            value, asked = self._values[key], list(self._unwritten[key])
        try:
            self._call(lambda here: here.kv.Put, rpc.PutRequest(key=key, value=value, lease=self._lease))
        except grpc.RpcError as error:
            if "lease not found" in _details(error):
                raise _Expired from None
            raise
        with self._changed:
            # Another value may have been put meanwhile.
            later = self._unwritten.pop(key)[len(asked) :]
            if later or self._values[key] != value:
                self._unwritten[key] = later
        for future in asked:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def _call(self, method: Callable[[_Endpoint], Any], request: Any) -> Any:
        try:
            return self._try(method, request)
        except grpc.RpcError as error:
            if not self._token or not any(text in _details(error) for text in STALE_TOKEN):
                raise
            self._token = ()
            return self._try(method, request)

    def _try(self, method: Callable[[_Endpoint], Any], request: Any) -> Any:
        here = self._endpoints[0]
        if self._configuration.user and not self._token:
            asking = rpc.AuthenticateRequest(name=self._configuration.user, password=self._configuration.password)
            try:
                self._token = (("token", here.auth.Authenticate(asking, timeout=OPERATION).token),)
            except grpc.RpcError as error:
                if NO_AUTHENTICATION not in _details(error):
                    raise
        return method(here)(request, timeout=OPERATION, metadata=self._token)

    def _end(self) -> None:
        try:
            if self._lease:
                self._call(lambda here: here.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=self._lease))
        except grpc.RpcError as error:
            log.warning("the lease of this pod could not be ended, its records go in %s s: %s", self._ttl, _details(error))
        for endpoint in self._endpoints:
            endpoint.channel.close()


def _details(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    return error.details() or error.code().name
