"""What a TorchServe holds counts the workers of its models, and it ends with all of them when a router wants it to begin anew."""

from __future__ import annotations

import sys

import grpc
import pytest

from mesh.protocols import runtime_process_pb2 as pb
from mesh.protocols import runtime_process_pb2_grpc as pb_grpc
from tests.support.waiting import until
from tests.torch.rig import TIMEOUT, Rig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only")

MIB = 1 << 20


def test_it_is_measured_with_its_workers_and_ended_with_them(rig: Rig) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{rig.spi_port}") as channel:
        process = pb_grpc.RuntimeProcessStub(channel)
        before = process.Memory(pb.MemoryRequest(), timeout=TIMEOUT)
        assert not before.unknown
        workers = rig.torchserve.workers()
        rig.load("measured", "says.mar")
        assert len(rig.torchserve.workers() - workers) == 1
        loaded = process.Memory(pb.MemoryRequest(), timeout=TIMEOUT)
        assert loaded.process == before.process
        assert loaded.held_bytes - before.held_bytes > 20 * MIB, "the worker is a Python of its own, with torch in it"

        process.Recycle(pb.RecycleRequest(), timeout=TIMEOUT)
        assert rig.torchserve.workers() == set()
        rig.torchserve.kill()  # takes leave of what has ended
        rig.torchserve.start()

        def anew() -> bool:
            told = process.Memory(pb.MemoryRequest(), timeout=TIMEOUT)
            return not told.unknown and told.process != before.process

        until(anew, "it is measured again", within=TIMEOUT)
    rig.until_ready()
    assert "measured" not in rig.registered()
