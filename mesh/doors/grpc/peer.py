"""The door for other pods: calls that they pass on, and the mesh's own between pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from grpc import aio

from mesh import __version__
from mesh.core.errors import Malformed, MeshError, NotHere, Unsupported
from mesh.core.ids import PodId
from mesh.core.routing.hops import Hop, Load
from mesh.core.units import Millis
from mesh.doors.grpc.proxy import Proxy, call_of, call_of_lane
from mesh.doors.grpc.status import Context, Farewell, abort, unary
from mesh.doors.ports import Serving
from mesh.pod.peer_lines import SERVICE
from mesh.protocols import peer_pb2 as pb
from mesh.settings import Settings
from mesh.wire import attempts
from mesh.wire.call import Call, Metadata, Target
from mesh.wire.hops import error_trailers, hop_of, load_trailers, pod_trailers, without_hop
from mesh.wire.peer_channel import server_options
from mesh.wire.peer_tls import PeerTls


class Loader(Protocol):
    """Has models loaded here."""

    async def ensure_loaded(self, hop: Hop, *, wait: bool, deadline: float | None) -> None:
        """Has the hop's model loaded, or with `wait`, returns when it is; `deadline` is on the event loop's clock, in seconds.

        Raises:
            MeshError: it cannot be, or is not in time.
        """
        ...


class PeerDoor:
    """Listens for pods. Every answer names this pod and how busy it is, and every error of the mesh names its class.

    Args:
        settings: address, port, limits, TLS, name of the mesh.
        serving: carries out calls whose `hop` is set.
        loader: has models loaded.
        me: this pod; calls for another are refused.
        started: when this pod started.
        load: how busy it is now.
        behind: where to listen in place of the port, which the express lane has; for it alone.
    """

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        loader: Loader,
        *,
        me: PodId,
        started: Millis,
        load: Callable[[], Load],
        behind: str = "",
    ) -> None:
        self._settings, self._me, self._load, self._behind = settings, me, load, behind
        hello = pb.HelloResponse(pod=me, start_time=started, service=settings.service_name, version=__version__)
        self._server = aio.server(options=server_options(settings.max_headers, attempts.LONGEST if behind else 0))
        self._server.add_generic_rpc_handlers(
            (_PeerService(loader, hello, self._read, self._farewell), Proxy(serving, self._read, self._farewell))
        )

    async def start(self) -> int:
        """Listens and answers the bound port.

        Raises:
            Malformed: the port is taken, or a certificate is unusable.
        """
        where = self._behind or f"{self._settings.bind}:{self._settings.peer_port}"
        # Behind the lane it is the lane that speaks TLS.
        tls = None if self._behind else PeerTls.of(self._settings)
        try:
            port = self._server.add_secure_port(where, tls.server_credentials()) if tls else self._server.add_insecure_port(where)
        except RuntimeError as error:
            raise Malformed(f"calls between pods cannot be taken on {where}: is the port taken? Set MESH_PEER_PORT ({error})") from None
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Takes no new calls and gives running ones `grace` seconds."""
        await self._server.stop(grace)

    def _read(self, method: str, context: Context) -> Call:
        # What a pod says of attempts is not believed: only the lane's own socket is asked for them.
        call = call_of_lane(method, context) if self._behind else call_of(method, context)
        hop = hop_of(call.metadata)
        if hop is None:
            raise Malformed("this port is for calls between pods (MESH_PEER_PORT); clients call MM_SVC_GRPC_PORT or REST_PROXY_LISTEN_PORT")
        if hop.dest != self._me:
            raise NotHere(f"this is pod {self._me}, and the call is for pod {hop.dest}; do both have the same address (WKUBE_POD_IPADDR)?")
        return Call(method, without_hop(call.metadata), Target(models=(hop.model,)), call.deadline, call.balanced, hop, call.attempt)

    def _farewell(self, error: Exception | None) -> Metadata:
        said = (*pod_trailers(self._me), *load_trailers(self._load()))
        return (*said, *error_trailers(error)) if isinstance(error, MeshError) else said


class _PeerService(grpc.GenericRpcHandler):
    """`mesh.peer.v1.Peer`."""

    def __init__(self, loader: Loader, hello: pb.HelloResponse, read: Callable[[str, Context], Call], farewell: Farewell) -> None:
        self._loader, self._said, self._read, self._farewell = loader, hello, read, farewell
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "EnsureLoaded": unary(self._ensure_loaded, pb.EnsureLoadedRequest, farewell),
            "Hello": unary(self._hello, pb.HelloRequest, farewell),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method of the service; None for any other."""
        service, _, name = handler_call_details.method.removeprefix("/").rpartition("/")
        if service != SERVICE:
            return None
        return self._handlers.get(name) or grpc.unary_unary_rpc_method_handler(self._unknown)

    async def _ensure_loaded(self, request: pb.EnsureLoadedRequest, context: Context) -> Message:
        call = self._read(f"{SERVICE}/EnsureLoaded", context)
        assert call.hop is not None
        await self._loader.ensure_loaded(call.hop, wait=request.wait, deadline=call.deadline)
        return pb.EnsureLoadedResponse()

    async def _hello(self, _: pb.HelloRequest, __: Context) -> Message:
        return self._said

    async def _unknown(self, _: bytes, context: Context) -> bytes:
        await abort(context, Unsupported(f"{SERVICE} has no such method in version {__version__}"), farewell=self._farewell)
