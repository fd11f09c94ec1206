"""The gRPC door: management, what the mesh answers itself, health, reflection, and everything else proxied."""

from __future__ import annotations

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
    """Listens for clients.

    Args:
        settings: port, limits, TLS.
        pod: who answers.
    """

    def __init__(self, settings: Settings, pod: LivingPod) -> None:
        self._settings = settings
        self._server = aio.server(options=_options(settings))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (inference.SERVICE, management.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        handlers: Sequence[grpc.GenericRpcHandler] = (
            management.ModelMeshService(pod.management, pod.conductor.now),
            inference.InferenceService(pod.management, pod.management, pod.registry, __version__),
            Proxy(pod.serving),
        )
        self._server.add_generic_rpc_handlers(handlers)

    async def start(self) -> int:
        """Listens and answers the bound port.

        Raises:
            Malformed: the port is taken, or a certificate is unusable.
        """
        settings = self._settings
        where = f"{settings.bind}:{settings.grpc_port}"
        files = TlsFiles.of(settings)
        try:
            port = self._server.add_secure_port(where, grpc_credentials(files)) if files else self._server.add_insecure_port(where)
        except RuntimeError as error:
            raise Malformed(f"gRPC cannot listen on {where}: is the port taken? Set MM_SVC_GRPC_PORT to another one ({error})") from None
        await self._server.start()
        return port

    async def serving(self, serving: bool) -> None:
        """Tells health checks whether calls are taken."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", inference.SERVICE, management.SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Takes no new calls and gives running ones `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


def _options(settings: Settings) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", settings.max_message),
        ("grpc.max_send_message_length", -1),
        # With port reuse a second server would bind a taken port and share its clients without a word.
        ("grpc.so_reuseport", 0),
    ]
    if settings.max_headers > 0:
        options.append(("grpc.max_metadata_size", settings.max_headers))
        options.append(("grpc.absolute_max_metadata_size", settings.max_headers))
    if settings.max_connection_age > 0:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age * 1000))
    if settings.max_connection_age_grace > 0:
        options.append(("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace * 1000))
    return options
