"""A pod with the lane in front of its gRPC door: what is published goes straight to the scripted runtime, all else to the router."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lane import built
from tests.support.client import Client
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

if TYPE_CHECKING:
    import mesh_lane

V2 = "inference.GRPCInferenceService"
INFER: tuple[str, Any] = (f"{V2}/ModelInfer", ([1], False, True, [1]))
STREAM: tuple[str, Any] = (f"{V2}/ModelStreamInfer", ([1], False, True, [1]))
PYTHONS = ["mmesh.ModelMesh", "mmesh.ModelRuntime", V2, "grpc.health.v1.Health"]
RULES: Any = ([INFER, STREAM], ([], False, False, []), PYTHONS)
"""As the default dataplane has them: v2 by the field of the request, all others by headers."""
LARGEST = 64 * MIB


@dataclass
class Pod:
    """A mesh of one pod, with a lane before its door."""

    mesh: Mesh
    lane: mesh_lane.Lane
    client: Client

    @property
    def runtime_address(self) -> str:
        """Where the model server serves."""
        return f"127.0.0.1:{self.mesh.runtime.serving_port}"

    def resident(self, model: str, **more: Any) -> mesh_lane.Copy:
        """Has a model loaded by the router, and publishes its copy."""
        self.mesh.client.loaded(model)
        copy = self.lane.copy(self.runtime_address, **more)
        self.published(models=[(model, [copy])])
        return copy

    def published(self, **changes: Any) -> None:
        """Returns when all workers know of the changes."""
        version = self.lane.publish(**changes)
        until(lambda: self.lane.acknowledged >= version, f"version {version}")


@contextmanager
def a_lane(mesh: Mesh, **more: Any) -> Iterator[Pod]:
    """A lane before a mesh's door, for as long as the context lasts."""
    module = built.load()
    if module is None:
        pytest.skip("the express lane is not compiled: `make lane` does it where cargo is")
    given = {"python": mesh.router.address, "workers": 2, "max_message": LARGEST} | more
    lane = module.Lane("127.0.0.1:0", **given)
    try:
        lane.publish(rules=RULES)
        with Client.insecure(lane.address) as client:
            yield Pod(mesh, lane, client)
    finally:
        lane.stop(0)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("lane")
    environment = {"MM_SVC_GRPC_MAX_MSG_SIZE": str(LARGEST), "MESH_LANE": "off"}
    with a_mesh(folder, Behaviour(capacity=64 * 1024 * MIB), environment, separate=True) as mesh:
        yield mesh


@pytest.fixture(scope="session")
def pod(mesh: Mesh) -> Iterator[Pod]:
    with a_lane(mesh, times=[1_000, 1_000_000], sizes=[1_000]) as pod:
        yield pod


_models = itertools.count(1)


@pytest.fixture
def model() -> str:
    """A model's id that no other test uses."""
    return f"m{next(_models)}"
