"""An MLServer whose models do not let go, or are larger than their files say.

One that is killed, hangs or comes back is in test_restarts_and_cancellation.py, one that leaks in tests/integration/recycling.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mesh.protocols import runtime_process_pb2 as pb
from mesh.protocols import runtime_process_pb2_grpc as pb_grpc
from tests.integration.mlserver_adapter.rig import MODELS, TIMEOUT, Rig

pytestmark = [pytest.mark.mlserver, pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only")]

MIB = 1 << 20
TAKES = 64 * MIB

STUBBORN = """
import os, pathlib
from mlserver import MLModel

class Stubborn(MLModel):
    async def load(self):
        self.weights = bytearray(os.urandom(1)) * {takes}
        return True

    async def unload(self):
        if not (pathlib.Path({marks!r}) / f"{{self.name}}.go").exists():
            raise RuntimeError("not yet")
        return True
"""
"""A model class that takes far more than its file, and refuses to unload until a file appears."""


@pytest.fixture(scope="module")
def rig(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("trouble")
    (folder / "marks").mkdir()
    (folder / "stubborn.py").write_text(STUBBORN.format(marks=str(folder / "marks"), takes=TAKES))
    made = Rig(environment, folder, server={"PYTHONPATH": str(folder), "MLSERVER_MODEL_IMPLEMENTATION": "stubborn.Stubborn"})
    try:
        shutil.copy(MODELS / "mnist-svm.joblib", made.claim("models"))
        made.mlserver.start()
        made.until_ready()
        yield made
    finally:
        made.close()


def let_go(rig: Rig, model: str) -> None:
    (rig.root.parent / "marks" / f"{model}.go").touch()


def held(rig: Rig) -> pb.MemoryResponse:
    answer = pb_grpc.RuntimeProcessStub(rig._spi_channel).Memory(pb.MemoryRequest(), timeout=TIMEOUT)
    assert not answer.unknown
    return answer


def test_a_model_that_refuses_to_unload_is_told_keeps_its_files_and_goes_when_it_is_asked_again(rig: Rig) -> None:
    rig.load("stubborn", "mnist-svm.joblib")
    with pytest.raises(grpc.RpcError) as refusal:
        rig.unload("stubborn")
    assert isinstance(refusal.value, grpc.Call)
    assert refusal.value.code() == grpc.StatusCode.INTERNAL
    said = refusal.value.details() or ""
    assert said.startswith("Failed to unload model from MLServer")
    assert "not yet" in said
    assert rig.files(), "what may still be in use stays"
    let_go(rig, "stubborn")
    rig.unload("stubborn")
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_what_a_model_really_takes_shows_whatever_its_size_was_told_as(rig: Rig) -> None:
    before = held(rig)
    told = rig.load("larger", "mnist-svm.joblib").sizeInBytes
    assert told < MIB
    after = held(rig)
    assert after.process == before.process
    assert after.held_bytes - before.held_bytes > TAKES - MIB
    assert rig.load("corrected", "mnist-svm.joblib", size_bytes=TAKES).sizeInBytes == TAKES, "who knows better says so in the key"
