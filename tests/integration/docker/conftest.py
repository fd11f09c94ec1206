"""The mesh's image, its steps carried out once, and a pod of its containers."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.docker.image import Image
from tests.integration.mlserver_adapter.rig import MODELS, MLServer
from tests.support import environments, ports
from tests.support.http import plain
from tests.support.waiting import until
from tests.unit.docker.files import MESH, compose

LANE = importlib.util.find_spec("mesh_lane")
"""The compiled express lane; None where there is no cargo."""


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Built without a network: pip finds in a folder what it would fetch; the express lane is this environment's, if it has one."""
    fetched = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(environments.wheels()), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    lane = {"src/lane/target/release/libmesh_lane.so": Path(LANE.origin)} if LANE and LANE.origin else {}
    return Image(MESH, tmp_path_factory.mktemp("image"), fetched, made={"lane": lane}, left_out="" if lane else "mesh_lane")


@dataclass(frozen=True)
class Pod:
    """Ports of the router's doors."""

    grpc: int
    rest: int
    logs: tuple[Path, Path]


@pytest.fixture(scope="module")
def pod(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The three containers of the compose file's first pod, on ports of this machine and with a registry in memory; well and ready."""
    services, folder = compose()["services"], tmp_path_factory.mktemp("pod")
    models, claims = image.root / "models", folder / "claims"
    (models / "_mlserver_models").mkdir()
    shutil.copytree(MODELS, claims / "models")
    mlserver = MLServer(environments.made("mlserver"), models, folder / "mlserver.log", {})
    grpc, rest, peers, probe, prestop, metrics, spi = ports.free(7)
    router = {
        **services["mesh-0"]["environment"],
        "KV_STORE": "",
        "WKUBE_POD_IPADDR": "127.0.0.1",
        "MESH_BIND_ADDRESS": "127.0.0.1",
        "MM_SVC_GRPC_PORT": str(grpc),
        "REST_PROXY_LISTEN_PORT": str(rest),
        "MESH_PEER_PORT": str(peers),
        "MM_PROBE_PORT": str(probe),
        "MM_PRESTOP_WAIT_PORT": str(prestop),
        "MM_METRICS": f"prometheus:port={metrics};scheme=http",
        "INTERNAL_GRPC_PORT": str(spi),
        "INTERNAL_SERVING_GRPC_PORT": str(mlserver.port),
    }
    adapter = {
        **services["adapter-0"]["environment"],
        "ADAPTER_PORT": str(spi),
        "RUNTIME_PORT": str(mlserver.port),
        "ROOT_MODEL_DIR": str(models),
        "PVC_MOUNTS_DIR": str(claims),
        "STORAGE_CONFIG_DIR": str(folder),
    }
    (_, *check) = services["adapter-0"]["healthcheck"]["test"]
    mlserver.start()
    try:
        with image.running(*services["adapter-0"]["command"], **adapter) as second, image.running(*image.command, **router) as first:
            image.until_well(check, **adapter)
            image.until_well(image.health_check, **router)
            # Well is a router that starts, too; its doors are open once it is ready.
            until(lambda: _ready(probe), "the router to be ready", within=120)
            yield Pod(grpc, rest, (first, second))
    finally:
        mlserver.kill()


def _ready(probe: int) -> bool:
    try:
        return plain.get(f"http://127.0.0.1:{probe}/ready", timeout=5).is_success
    except httpx.TransportError:
        return False
