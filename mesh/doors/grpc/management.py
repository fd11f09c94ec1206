"""`mmesh.ModelMesh`, and the names under which older clients know it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from mesh.core.errors import Malformed
from mesh.core.explaining.status import AliasStatus, ModelStatus
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.records import Bounds, ModelInfo
from mesh.core.scaling.bounds import bounds_from_json
from mesh.core.traffic.reading import Sharing, sharing_from_json
from mesh.core.units import Millis
from mesh.doors.grpc.status import Context, Method, unary
from mesh.pod.management import Management
from mesh.protocols import model_mesh_pb2 as pb
from mesh.wire.headers import BOUNDS, RETRY_LOAD, TRAFFIC

SERVICE = "mmesh.ModelMesh"
LEGACY_SERVICE = "com.ibm.watson.tas.proto.TasRuntime"
LEGACY_METHODS = {"addModel": "registerModel", "deleteModel": "unregisterModel"}
"""Old names, still accepted on both services (reference 1.2)."""


class ModelMeshService(grpc.GenericRpcHandler):
    """The management API over gRPC; what it does is in `mesh.pod.management`."""

    def __init__(self, management: Management, now: Callable[[], Millis]) -> None:
        self._management, self._now = management, now
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: unary(method, request) for name, (method, request) in self._methods().items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a management method; None for any other."""
        service, _, name = handler_call_details.method.removeprefix("/").rpartition("/")
        if service not in (SERVICE, LEGACY_SERVICE):
            return None
        handler = self._handlers.get(LEGACY_METHODS.get(name, name))
        return handler if handler is not None else _UNKNOWN

    def _methods(self) -> dict[str, tuple[Method, Any]]:
        return {
            "registerModel": (self._register, pb.RegisterModelRequest),
            "unregisterModel": (self._unregister, pb.UnregisterModelRequest),
            "getModelStatus": (self._model_status, pb.GetStatusRequest),
            "ensureLoaded": (self._ensure_loaded, pb.EnsureLoadedRequest),
            "setVModel": (self._set_alias, pb.SetVModelRequest),
            "deleteVModel": (self._delete_alias, pb.DeleteVModelRequest),
            "getVModelStatus": (self._alias_status, pb.GetVModelStatusRequest),
        }

    async def _register(self, request: pb.RegisterModelRequest, _: Context) -> Message:
        status = await self._management.register(
            request.modelId,
            _info(request.modelInfo),
            load_now=request.loadNow,
            sync=request.sync,
            last_used=request.lastUsedTime,
        )
        return model_status(status)

    async def _unregister(self, request: pb.UnregisterModelRequest, _: Context) -> Message:
        await self._management.unregister(request.modelId)
        return pb.UnregisterModelResponse()

    async def _model_status(self, request: pb.GetStatusRequest, _: Context) -> Message:
        return model_status(await self._management.look_up(request.modelId))

    async def _ensure_loaded(self, request: pb.EnsureLoadedRequest, _: Context) -> Message:
        return model_status(await self._management.ensure_loaded(request.modelId, last_used=request.lastUsedTime, sync=request.sync))

    async def _set_alias(self, request: pb.SetVModelRequest, context: Context) -> Message:
        given = request.HasField("modelInfo") and request.modelInfo != pb.ModelInfo()
        metadata = tuple(context.invocation_metadata() or ())
        sharing = _sharing(metadata)
        edit = SetAlias(
            AliasId(request.vModelId),
            ModelId(request.targetModelId),
            self._now(),
            info=_info(request.modelInfo) if given else None,
            auto_delete=request.autoDeleteTargetModel,
            load_now=request.loadNow,
            update_only=request.updateOnly,
            force=request.force,
            expected=ModelId(request.expectedTargetModelId) if request.expectedTargetModelId else None,
            owner=request.owner,
            bounds=_bounds(metadata),
            keep=sharing.keep,
            canary=sharing.canary,
        )
        retry = (RETRY_LOAD, "true") in metadata
        return alias_status(await self._management.set_alias(edit, sync=request.sync, retry=retry))

    async def _delete_alias(self, request: pb.DeleteVModelRequest, _: Context) -> Message:
        await self._management.delete_alias(request.vModelId, request.owner)
        return pb.DeleteVModelResponse()

    async def _alias_status(self, request: pb.GetVModelStatusRequest, _: Context) -> Message:
        return alias_status(await self._management.look_up_alias(request.vModelId, request.owner))


def model_status(status: ModelStatus) -> pb.ModelStatusInfo:
    """The message for a status."""
    copies = [
        pb.ModelStatusInfo.ModelCopyInfo(location=copy.pod, copyStatus=pb.ModelStatusInfo.ModelStatus.Value(copy.state.name), time=copy.at)
        for copy in status.copies
    ]
    return pb.ModelStatusInfo(status=pb.ModelStatusInfo.ModelStatus.Value(status.state.name), errors=status.errors, modelCopyInfos=copies)


def alias_status(status: AliasStatus) -> pb.VModelStatusInfo:
    """The message for a status; models that are not to be told are left unset."""
    return pb.VModelStatusInfo(
        status=pb.VModelStatusInfo.VModelStatus.Value(status.state.name),
        activeModelId=status.active,
        targetModelId=status.target,
        owner=status.owner,
        activeModelStatus=model_status(status.active_status) if status.active_status else None,
        targetModelStatus=model_status(status.target_status) if status.target_status else None,
    )


def _info(info: pb.ModelInfo) -> ModelInfo:
    return ModelInfo(info.type, info.path, info.key)


def _bounds(metadata: Any) -> Bounds | None:
    text = next((value for name, value in metadata if name == BOUNDS), None)
    if text is None:
        return None
    try:
        return bounds_from_json(json.loads(text))
    except (ValueError, Malformed) as error:
        raise Malformed(f"header {BOUNDS}: {error.message if isinstance(error, Malformed) else 'it is not JSON'}") from None


def _sharing(metadata: Any) -> Sharing:
    text = next((value for name, value in metadata if name == TRAFFIC), None)
    if text is None:
        return Sharing()
    try:
        return sharing_from_json(json.loads(text))
    except (ValueError, Malformed) as error:
        raise Malformed(f"header {TRAFFIC}: {error.message if isinstance(error, Malformed) else 'it is not JSON'}") from None


async def _unknown(_: bytes, context: Context) -> bytes:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no such method of {SERVICE}; reflection lists what there is")


_UNKNOWN: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(_unknown)
