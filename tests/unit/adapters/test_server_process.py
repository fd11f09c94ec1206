"""The process of a model server is found by its port, measured with all that it started, and ended."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from mesh.protocols import runtime_process_pb2 as pb
from mesh.protocols import runtime_process_pb2_grpc as pb_grpc
from runtime_adapters.process_service import RuntimeProcess
from runtime_adapters.server_process import NotVisibleError, ServerProcess, StillThereError
from tests.support import ports
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only")

MIB = 1024 * 1024

SERVER = textwrap.dedent("""
    import os, signal, socket, subprocess, sys, time
    port, deaf = int(sys.argv[1]), sys.argv[2] == "deaf"
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = socket.create_server(("127.0.0.1", port))
    reading, writing = os.pipe()
    if os.fork() == 0:
        # Inherits the socket, as workers do.
        held = bytearray(os.urandom(1)) * (40 << 20)
        os.write(writing, b"x")
        time.sleep(600)
    os.read(reading, 1)
    print("listening", flush=True)
    if sys.argv[2] == "leaves":
        # A worker of the worker, which ends and leaves it running.
        left = "kept = bytearray(b'x') * (30 << 20); print('left', flush=True); import time; time.sleep(600)"
        worker = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {left!r}])"
        subprocess.run([sys.executable, "-c", worker])
    for line in sys.stdin:
        kept = bytearray(os.urandom(1)) * (int(line) << 20)
        print("kept", flush=True)
    time.sleep(600)
""")
"""Listens on a port, has a worker with 40 MiB, and takes as many MiB as each line of its input says.
Told that it leaves something, it has a process with 30 MiB that is nobody's child any more."""

Start = Callable[..., "Server"]


class Server:
    """One such server."""

    def __init__(self, *, deaf: bool = False, leaves: bool = False) -> None:
        (self.port,) = ports.free()
        arguments = [sys.executable, "-c", SERVER, str(self.port), "deaf" if deaf else "leaves" if leaves else ""]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.hears("listening")
        if leaves:
            self.hears("left")

    def hears(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word

    def keep(self, mib: int) -> None:
        assert self.process.stdin
        print(mib, file=self.process.stdin, flush=True)
        self.hears("kept")

    def family(self) -> list[Path]:
        """Processes of its session that run."""
        return [path for path in Path("/proc").iterdir() if path.name.isdecimal() and _session(path) == self.process.pid]

    def end(self) -> None:
        for path in self.family():
            os.kill(int(path.name), 9)
        self.process.wait()
        until(lambda: not self.family(), "its worker to be gone, too")
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()


def _session(path: Path) -> int | None:
    try:
        state, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state in "ZX" else int(session)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Server] = []

    def make(**more: bool) -> Server:
        started.append(Server(**more))
        return started[-1]

    yield make
    for server in started:
        server.end()


def test_what_it_holds_counts_its_workers_and_follows_what_it_takes(start: Start) -> None:
    server = start()
    process = ServerProcess(server.port)
    before = process.held()
    assert before.bytes > 40 * MIB, "its worker's are among them"
    server.keep(64)
    after = process.held()
    assert 63 * MIB <= after.bytes - before.bytes < 70 * MIB
    assert after.process == before.process
    assert after.process.startswith(f"{server.process.pid}@")


def test_what_some_of_its_processes_hold_is_told_and_of_others_nothing(start: Start) -> None:
    server = start()
    process = ServerProcess(server.port)
    (worker,) = (int(path.name) for path in server.family() if int(path.name) != server.process.pid)
    assert 40 * MIB < process.part([worker]) < process.held().bytes
    assert process.part([server.process.pid]) == process.held().bytes, "with what it started"
    with pytest.raises(NotVisibleError, match=f"processes {os.getpid()} are none of the server's"):
        process.part([worker, os.getpid()])


def test_another_process_on_the_same_port_has_another_name(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    process = ServerProcess(server.port)
    first = process.held()
    server.end()
    with pytest.raises(NotVisibleError, match=f"nothing listens on port {server.port}"):
        process.held()
    monkeypatch.setattr("tests.support.ports.free", lambda: (server.port,))
    start()
    assert process.held().process != first.process


def test_it_ends_with_all_that_it_started(start: Start) -> None:
    server = start()
    assert len(server.family()) == 2
    asyncio.run(ServerProcess(server.port).end())
    assert server.process.wait() == -15
    assert server.family() == []


def test_what_a_worker_left_running_counts_and_ends_with_it(start: Start) -> None:
    server = start(leaves=True)
    until(lambda: len(server.family()) == 3, "whoever left it to be gone")
    process = ServerProcess(server.port)
    assert process.held().bytes > 70 * MIB, "the worker's 40, and the 30 that were left"
    asyncio.run(process.end())
    assert server.process.wait() == -15
    assert server.family() == []


def test_one_that_does_not_end_is_ended(start: Start) -> None:
    server = start(deaf=True)
    asyncio.run(ServerProcess(server.port).end(grace=0.3))
    assert server.process.wait() == -9
    assert server.family() == []


def test_one_that_is_left_after_all_is_told(start: Start, tmp_path: Path) -> None:
    """Its process can be seen here, and is still to be seen when it is gone: as one that the kernel cannot end."""
    server = start()
    (tmp_path / "net").symlink_to("/proc/net")
    kept = tmp_path / str(server.process.pid)
    kept.mkdir()
    for name in ("stat", "status"):
        (kept / name).write_text((Path("/proc") / kept.name / name).read_text())
    (kept / "fd").symlink_to(f"/proc/{kept.name}/fd")
    with pytest.raises(StillThereError, match=f"processes {kept.name} of the model server were killed and do not end"):
        asyncio.run(ServerProcess(server.port, tmp_path).end(grace=0.3))


def test_with_nothing_there_nothing_is_ended() -> None:
    (port,) = ports.free()
    with pytest.raises(NotVisibleError, match=f"nothing listens on port {port}"):
        asyncio.run(ServerProcess(port).end())


def test_a_server_in_another_process_namespace_is_told_so_and_what_helps(start: Start, tmp_path: Path) -> None:
    """The network is the pod's, the processes are the container's: the listener shows, its process does not."""
    server = start()
    (tmp_path / "net").symlink_to("/proc/net")
    (tmp_path / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    with pytest.raises(NotVisibleError, match="shareProcessNamespace: true"):
        ServerProcess(server.port, tmp_path).held()


def test_a_system_without_proc_is_told_so(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotVisibleError, match="on Linux only"):
            ServerProcess(1, missing).held()


def test_this_very_process_is_never_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own, pytest.raises(NotVisibleError, match="this adapter itself"):
        asyncio.run(ServerProcess(own.getsockname()[1]).end())


# As an adapter's router asks


@asynccontextmanager
async def asked(port: int) -> AsyncIterator[pb_grpc.RuntimeProcessAsyncStub]:
    server = grpc.aio.server()
    pb_grpc.add_RuntimeProcessServicer_to_server(RuntimeProcess(ServerProcess(port)), server)
    own = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{own}") as channel:
        yield pb_grpc.RuntimeProcessStub(channel)
    await server.stop(None)


def test_a_router_is_told_what_is_held_and_has_the_server_ended_once_however_many_ask(start: Start) -> None:
    server = start()

    async def story() -> None:
        async with asked(server.port) as stub:
            held = await stub.Memory(pb.MemoryRequest())
            assert (held.unknown, held.process.split("@")[0]) == ("", str(server.process.pid))
            assert held.held_bytes > 40 * MIB
            await asyncio.gather(*(stub.Recycle(pb.RecycleRequest()) for _ in range(3)))
            assert server.family() == []
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stub.Recycle(pb.RecycleRequest())
            assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert (await stub.Memory(pb.MemoryRequest())).unknown == refusal.value.details() == f"nothing listens on port {server.port}"

    asyncio.run(story())
