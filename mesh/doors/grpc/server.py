"""The gRPC door: management, what the mesh answers itself, health, reflection, and everything else proxied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh import __version__
from mesh.core.errors import Malformed
from mesh.doors.grpc import inference, management
from mesh.doors.grpc.proxy import Proxy
from mesh.doors.tls import TlsFiles, grpc_credentials
from mesh.pod.assemble import LivingPod
from mesh.settings import Settings

log = logging.getLogger(__name__)


class GrpcDoor:
    """Listens for clients, on a port of its own and on the one shared with other routers, if there is one.

    Args:
        settings: ports, limits, TLS.
        pod: who answers.
    """

    def __init__(self, settings: Settings, pod: LivingPod) -> None:
        self._settings = settings
        self._health = health.aio.HealthServicer()
        self._handlers: Sequence[grpc.GenericRpcHandler] = (
            management.ModelMeshService(pod.management, pod.conductor.now),
            inference.InferenceService(pod.management, pod.management, pod.registry, __version__),
            Proxy(pod.serving),
        )
        self._servers: list[aio.Server] = []

    async def start(self) -> int:
        """Listens, and answers the bound port of its own.

        Raises:
            Malformed: a port is taken, or a certificate is unusable.
        """
        settings = self._settings
        own = await self._listen(settings.grpc_port, "MM_SVC_GRPC_PORT", shared=False)
        if settings.shared_grpc_port is not None:
            await self._listen(settings.shared_grpc_port, "MESH_SHARED_GRPC_PORT", shared=True)
        return own

    async def _listen(self, port: int, variable: str, *, shared: bool) -> int:
        # gRPC reuses either all ports of a server or none: each way of binding has a server.
        server = aio.server(options=_options(self._settings, shared=shared))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (inference.SERVICE, management.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        server.add_generic_rpc_handlers(self._handlers)
        where = f"{self._settings.bind}:{port}"
        files = TlsFiles.of(self._settings)
        try:
            bound = server.add_secure_port(where, grpc_credentials(files)) if files else server.add_insecure_port(where)
        except RuntimeError as error:
            # A door of which one port is not to be had opens none.
            await self.stop(0)
            raise Malformed(f"gRPC cannot listen on {where}: is the port taken? Set {variable} to another one ({error})") from None
        await server.start()
        self._servers.append(server)
        return bound

    async def serving(self, serving: bool) -> None:
        """Tells health checks whether calls are taken."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", inference.SERVICE, management.SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Takes no new calls and gives running ones `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(*(server.stop(grace) for server in self._servers))


def _options(settings: Settings, *, shared: bool) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", settings.max_message),
        ("grpc.max_send_message_length", -1),
        # With port reuse a second server would bind a taken port and share its clients without a word.
        ("grpc.so_reuseport", int(shared)),
    ]
    if settings.max_headers > 0:
        options.append(("grpc.max_metadata_size", settings.max_headers))
        options.append(("grpc.absolute_max_metadata_size", settings.max_headers))
    if settings.max_connection_age > 0:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age * 1000))
    if settings.max_connection_age_grace > 0:
        options.append(("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace * 1000))
    return options
