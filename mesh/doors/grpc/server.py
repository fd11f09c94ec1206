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
from mesh.doors.grpc import inference, management, traffic
from mesh.doors.grpc.proxy import Proxy, call_of_lane
from mesh.doors.tls import TlsFiles, grpc_credentials
from mesh.pod.assemble import LivingPod
from mesh.settings import Settings
from mesh.wire import attempts

log = logging.getLogger(__name__)

HEADERS = 16 * 1024
"""Bytes of a call's headers that gRPC takes at most unless it is told otherwise (`grpc.absolute_max_metadata_size`)."""


class GrpcDoor:
    """Listens for clients, on a port of its own and on the one shared with other routers, if there is one.

    Args:
        settings: ports, limits, TLS.
        pod: who answers.
        behind: where to listen in place of the ports, which the express lane has; plaintext, and for it alone.
    """

    def __init__(self, settings: Settings, pod: LivingPod, behind: str = "") -> None:
        self._settings, self._behind = settings, behind
        self._health = health.aio.HealthServicer()
        self._handlers: Sequence[grpc.GenericRpcHandler] = (
            management.ModelMeshService(pod.management, pod.conductor.now),
            traffic.TrafficService(pod.versions),
            inference.InferenceService(pod.management, pod.management, pod.registry, __version__),
        )
        self._serving = pod.serving
        self._servers: list[aio.Server] = []

    async def start(self) -> int:
        """Listens, and answers the bound port of its own.

        Raises:
            Malformed: a port is taken, or a certificate is unusable.
        """
        settings = self._settings
        own = await self._listen(settings.grpc_port, "MM_SVC_GRPC_PORT", shared=False, where=self._behind)
        if settings.shared_grpc_port is not None and not self._behind:
            await self._listen(settings.shared_grpc_port, "MESH_SHARED_GRPC_PORT", shared=True)
        return own

    async def _listen(self, port: int, variable: str, *, shared: bool, where: str = "") -> int:
        # gRPC reuses either all ports of a server or none: each way of binding has a server.
        server = aio.server(options=_options(self._settings, shared=shared, behind=bool(where)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (inference.SERVICE, management.SERVICE, traffic.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        # What a client says of attempts is not believed: only who comes in by the lane's own socket is asked for them.
        server.add_generic_rpc_handlers((*self._handlers, Proxy(self._serving, call_of_lane if where else None)))
        # The lane speaks TLS with the clients, and hands their calls over in plaintext.
        files = None if where else TlsFiles.of(self._settings)
        where = where or f"{self._settings.bind}:{port}"
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


def _options(settings: Settings, *, shared: bool, behind: bool) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", settings.max_message),
        ("grpc.max_send_message_length", -1),
        # With port reuse a second server would bind a taken port and share its clients without a word.
        ("grpc.so_reuseport", int(shared)),
    ]
    most = settings.max_headers
    if behind:
        # The lane keeps clients to their limits, and tells what it tried beside their headers.
        most = (most if most > 0 else HEADERS) + attempts.LONGEST
    if most > 0:
        options.append(("grpc.max_metadata_size", most))
        options.append(("grpc.absolute_max_metadata_size", most))
    if not behind and settings.max_connection_age > 0:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age * 1000))
    if not behind and settings.max_connection_age_grace > 0:
        options.append(("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace * 1000))
    return options
