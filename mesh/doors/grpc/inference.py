"""The methods of KServe v2 that the mesh answers itself: about the server, readiness, the repository."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message

from mesh.core.errors import Malformed, Unsupported
from mesh.core.routing.names import resolve_name
from mesh.doors.grpc.proxy import call_of
from mesh.doors.grpc.status import Context, abort, unary
from mesh.doors.ports import EXTENSIONS, SERVER_NAME, Directory
from mesh.pod.management import Management
from mesh.protocols import inference_pb2 as pb
from mesh.store.registry import Registry

SERVICE = "inference.GRPCInferenceService"
INDEX_LIMIT, INDEX_AFTER = "mesh-index-limit", "mesh-index-after"
"""Our additions: metadata that pages `RepositoryIndex`. The answer's trailer `mesh-index-after` is what to send for the next page."""

INDEX_STEP = 250
"""Names looked up before other calls get their turn."""

_INSTEAD = {
    "RepositoryModelUnload": "the mesh unloads what is used least; delete the InferenceService, or call mmesh.ModelMesh/unregisterModel",
    **{
        f"{kind}SharedMemory{verb}": "shared memory cannot reach a runtime through the mesh; send tensors in the request"
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    },
    "TraceSetting": "trace settings belong to one runtime process; set them where the runtime is started",
    "LogSettings": "log settings belong to one runtime process; set them where the runtime is started",
}
"""What is refused, and what to use instead."""


ANSWERED = frozenset(
    f"{SERVICE}/{name}"
    for name in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "RepositoryIndex", "RepositoryModelLoad", *_INSTEAD)
)
"""Methods that `InferenceService` answers."""


class InferenceService(grpc.GenericRpcHandler):
    """Answers for the mesh; every method that concerns a model's runtime goes to the proxy."""

    def __init__(self, directory: Directory, management: Management, registry: Registry, version: str) -> None:
        self._directory, self._management, self._registry, self._version = directory, management, registry, version
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ServerLive": unary(self._live, pb.ServerLiveRequest),
            "ServerReady": unary(self._ready, pb.ServerReadyRequest),
            "ServerMetadata": unary(self._metadata, pb.ServerMetadataRequest),
            "ModelReady": unary(self._model_ready, pb.ModelReadyRequest),
            "RepositoryIndex": unary(self._index, pb.RepositoryIndexRequest),
            "RepositoryModelLoad": unary(self._load, pb.RepositoryModelLoadRequest),
            **{name: _refusal(name, instead) for name, instead in _INSTEAD.items()},
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method that the mesh answers; None for any other."""
        service, _, name = handler_call_details.method.removeprefix("/").rpartition("/")
        return self._handlers.get(name) if service == SERVICE else None

    async def _live(self, _request: pb.ServerLiveRequest, _: Context) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _request: pb.ServerReadyRequest, _: Context) -> Message:
        return pb.ServerReadyResponse(ready=self._directory.ready())

    async def _metadata(self, _request: pb.ServerMetadataRequest, _: Context) -> Message:
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=self._version, extensions=EXTENSIONS)

    async def _model_ready(self, request: pb.ModelReadyRequest, _: Context) -> Message:
        if not request.name:
            raise Malformed("must provide a model name")
        return pb.ModelReadyResponse(ready=self._directory.model_ready(request.name))

    async def _index(self, request: pb.RepositoryIndexRequest, context: Context) -> Message:
        paging = {str(key): str(value) for key, value in context.invocation_metadata() or () if key in (INDEX_LIMIT, INDEX_AFTER)}
        try:
            limit = int(paging.get(INDEX_LIMIT, 100_000))
        except ValueError:
            limit = 0
        if limit < 1:
            raise Malformed(f"{INDEX_LIMIT} must be a number from 1 on, not {paging[INDEX_LIMIT]!r}")
        answer, after = pb.RepositoryIndexResponse(), paging.get(INDEX_AFTER, "")
        while len(answer.models) < limit:
            asked = min(INDEX_STEP, limit - len(answer.models))
            listed = self._directory.index(ready=request.ready, after=after, limit=asked)
            for name, version, state, reason in listed:
                answer.models.add(name=name, version=version, state=state, reason=reason)
            if len(listed) < asked:
                return answer
            after = listed[-1].name
            await asyncio.sleep(0)
        context.set_trailing_metadata(((INDEX_AFTER, after),))
        return answer

    async def _load(self, request: pb.RepositoryModelLoadRequest, context: Context) -> Message:
        if not request.model_name:
            raise Malformed("must provide a model name")
        if request.parameters:
            raise Unsupported("a model's configuration is not replaced at load; apply an InferenceService that says what to serve")
        model = resolve_name(request.model_name, self._registry.aliases, self._registry.models)
        await self._management.load_or_fail(model, call_of(f"{SERVICE}/RepositoryModelLoad", context).deadline)
        return pb.RepositoryModelLoadResponse()


def _refusal(name: str, instead: str) -> grpc.RpcMethodHandler[Any, Any]:
    async def answer(_: bytes, context: Context) -> bytes:
        await abort(context, Unsupported(f"{name} is not offered by a mesh: {instead}"))

    return grpc.unary_unary_rpc_method_handler(answer)
