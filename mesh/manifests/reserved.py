"""What a runtime's document may not take, because the mesh's own containers of the same pod have it (reference D.5)."""

from __future__ import annotations

from mesh.core.errors import Malformed
from mesh.manifests.documents import Container, ServingRuntimeSpec

_CONTAINERS = ("mm", "rest-proxy", "puller")
_VOLUMES = ("storage-config", "etcd-config", "tc-config", "domain-socket", "models-dir")
_PREFIX = "mm-"
_PORT_NAMES = ("grpc", "http", "prometheus")
_PORTS = (8080, 8085, 8089, 8090, *range(11881, 11900))


def check_containers(place: str, spec: ServingRuntimeSpec) -> None:
    """Malformed if a container, a volume or a port has a name or a number of the mesh's, or a container a hook that is the mesh's."""
    for volume in spec.volumes:
        if volume.name in _VOLUMES or volume.name.startswith(_PREFIX):
            raise Malformed(f"{place}: the volume name {volume.name!r} is reserved for the mesh; choose another")
    for container in spec.containers:
        if container.name in _CONTAINERS or container.name.startswith(_PREFIX):
            raise Malformed(f"{place}: the container name {container.name!r} is reserved for the mesh; choose another")
        _check(f"{place}: container {container.name}", container)


def _check(place: str, container: Container) -> None:
    for field_name, given in (("readinessProbe", container.readiness_probe), ("lifecycle", container.lifecycle)):
        if given is not None:
            raise Malformed(f"{place}: {field_name} may not be set; the mesh asks the server itself, and ends it after its last call")
    for port in container.ports:
        if port.name in _PORT_NAMES or port.container_port in _PORTS:
            shown = port.name if port.name in _PORT_NAMES else port.container_port
            raise Malformed(f"{place}: the port {shown} is reserved for the mesh; choose another")
