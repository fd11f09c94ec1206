"""Sizes that the runtime tells: predicted before a load, reported by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import Client, Status
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import MIB, Behaviour


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("sizes"), Behaviour(predict_size=True, size_by="loadModel")) as mesh:
        yield mesh


def test_a_reported_size_is_not_asked_for(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model, f"SIZE_{20 * MIB}_0_0")
    assert [line["call"] for line in runtime.journal() if line["model"] == model and line["at"] == "start"] == [
        "predictModelSize",
        "loadModel",
    ]


def test_room_is_made_for_the_predicted_size(client: Client, runtime: RuntimeProcess, model: str) -> None:
    names = [client.loaded(f"{model}-{number}", f"SIZE_{200 * MIB}_0_0") for number in range(4)]
    client.loaded(f"{model}-large", f"SIZE_{500 * MIB}_0_0")
    assert max(line["held"] for line in runtime.journal()) <= 1024 * MIB
    assert client.status(names[0]).status == Status.NOT_LOADED
    assert client.status(names[3]).status == Status.LOADED


def test_a_model_larger_than_everything_is_not_even_tried(client: Client, runtime: RuntimeProcess, model: str) -> None:
    kept = client.loaded(f"{model}-kept", f"SIZE_{MIB}_0_0")
    status = client.register(model, f"SIZE_{2000 * MIB}_0_0", load=True, sync=True)
    assert status.status == Status.LOADING_FAILED
    assert "Predicted size of " in status.errors[0]
    assert " is larger than total effective capacity of " in status.errors[0]
    assert runtime.loads(model) == 0
    assert client.status(kept).status == Status.LOADED
