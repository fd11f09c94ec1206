"""The router's management interface, in the words of `mesh.core.registry.reconciliation`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import grpc
import httpx

from mesh.core.errors import Conflict, Failed, Malformed, MeshError, PeerUnavailable, Unknown
from mesh.core.explaining.status import AliasState, AliasStatus, CopyStatus, ModelState, ModelStatus, TrafficStatus, VersionStatus
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.reconciliation import DropAlias, PointAlias
from mesh.core.scaling.bounds import bounds_to_json
from mesh.core.traffic.reading import Sharing, sharing_to_json
from mesh.core.units import Millis
from mesh.local.ports import HOST
from mesh.protocols import management_pb2 as management
from mesh.protocols import management_pb2_grpc as management_rpc
from mesh.protocols import model_mesh_pb2 as pb
from mesh.protocols import model_mesh_pb2_grpc as rpc
from mesh.wire.headers import BOUNDS, RETRY_LOAD, TRAFFIC

_TIMEOUT = 10.0
"""Seconds for one management call, as ModelMesh's controller waits (reference D.2)."""


class RouterClient:
    """Calls of one router. Every method raises `PeerUnavailable` while it does not answer, and after `close`.

    Whoever asks several pods can come to one that was taken away in the meantime.
    """

    def __init__(self, grpc_port: int, probe_port: int) -> None:
        # Without keeping a subchannel pool of its own the channel would share back-off state with every other of this process.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 1000), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.aio.insecure_channel(f"{HOST}:{grpc_port}", options=options)
        self._mesh = rpc.ModelMeshStub(self._channel)
        self._traffic = management_rpc.TrafficStub(self._channel)
        # Nothing here is TLS: the authorities' certificates, which take tens of ms to read, are left alone.
        self._http = httpx.AsyncClient(base_url=f"http://{HOST}:{probe_port}", timeout=_TIMEOUT, trust_env=False, verify=False)
        self._closed = False

    async def close(self) -> None:
        """Ends the connections."""
        self._closed = True
        await self._channel.close()
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether the router takes calls."""
        if self._closed:
            return False
        try:
            return (await self._http.get("/ready", timeout=2.0)).is_success
        except httpx.HTTPError:
            return False

    async def details(self, path: str, params: dict[str, str]) -> Any:
        """JSON of `/mesh/v1/<path>`.

        Raises:
            Unknown: the router has nothing of that name.
        """
        self._refuse_if_closed()
        try:
            answer = await self._http.get(f"/mesh/v1/{path}", params=params)
        except httpx.HTTPError as error:
            raise PeerUnavailable(f"the router does not answer ({type(error).__name__}); `mesh status` shows its state") from None
        if answer.status_code == 404:
            raise Unknown(f"the router knows nothing of {unquote(path)}")
        if not answer.is_success:
            raise Failed(f"the router answered {answer.status_code} to {path}: {answer.text[:200]}")
        return answer.json()

    async def set_alias(self, order: PointAlias, *, retry: bool) -> AliasStatus:
        """Registers and points. Conflict if the alias belongs to another owner.

        Args:
            order: what is wanted.
            retry: a failed load is tried again at once, as whoever applies a document again wants.
        """
        wanted = order.registration
        info = pb.ModelInfo(type=wanted.type, path=wanted.path, key=wanted.key)
        request = pb.SetVModelRequest(
            vModelId=wanted.alias,
            targetModelId=wanted.model,
            modelInfo=info,
            autoDeleteTargetModel=True,
            loadNow=order.load_now,
            owner=wanted.owner,
        )
        sharing = sharing_to_json(Sharing(wanted.keep, wanted.share))
        metadata = (
            (BOUNDS, json.dumps(bounds_to_json(wanted.bounds))),
            (TRAFFIC, json.dumps(sharing)),
            *(((RETRY_LOAD, "true"),) if retry else ()),
        )
        return _seen(await self._call(self._mesh.setVModel, request, metadata))

    async def delete_alias(self, order: DropAlias) -> None:
        """Removes it; one that is gone already is fine."""
        await self._call(self._mesh.deleteVModel, pb.DeleteVModelRequest(vModelId=order.alias, owner=order.owner))

    async def alias(self, alias: AliasId) -> AliasStatus:
        """How an alias is."""
        return _seen(await self._call(self._mesh.getVModelStatus, pb.GetVModelStatusRequest(vModelId=alias)))

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        """The versions of a service and how they share its calls; None if there is none."""
        try:
            return _shared(await self._call(self._traffic.GetTraffic, management.GetTrafficRequest(service=alias)))
        except Unknown:
            return None

    async def set_policy(self, alias: AliasId, policy: Mapping[str, Any], owner: str) -> TrafficStatus:
        """Replaces the policy of a service; `{}` is none.

        Raises:
            Unknown: there is no such service.
            Malformed: the policy is wrong, or names a version that is not kept.
            Conflict: another owner's, or a canary has its share by a document.
        """
        request = management.SetPolicyRequest(service=alias, policy_json=json.dumps(policy), owner=owner)
        return _shared(await self._call(self._traffic.SetPolicy, request))

    async def _call(self, method: Any, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
        self._refuse_if_closed()
        try:
            return await method(request, timeout=_TIMEOUT, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            # gRPC cancels calls of a channel that closes; nobody cancelled us.
            raise PeerUnavailable("the call of the router was cut off") from None

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise PeerUnavailable("the pod of this router was taken away")


def _translated(error: grpc.aio.AioRpcError) -> MeshError:
    text = error.details() or ""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return PeerUnavailable(f"the router cannot do it now: {text}")
    if error.code() is grpc.StatusCode.ALREADY_EXISTS:
        return Conflict(text)
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return Unknown(text)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return Malformed(text)
    return Failed(f"the router refused: {error.code().name}: {text}")


def _seen(info: Any) -> AliasStatus:
    active = ModelId(info.activeModelId)
    return AliasStatus(
        AliasState(info.status) if info.status in {one.value for one in AliasState} else AliasState.UNKNOWN,
        active,
        ModelId(info.targetModelId) or active,
        info.owner,
        _model(info.activeModelStatus) if info.HasField("activeModelStatus") else None,
        _model(info.targetModelStatus) if info.HasField("targetModelStatus") else None,
    )


def _shared(info: Any) -> TrafficStatus:
    versions = (
        VersionStatus(one.number, ModelId(one.model_id), _model(one.status), one.percent, one.stable, one.next, Millis(one.since))
        for one in info.versions
    )
    return TrafficStatus(tuple(versions), json.loads(info.policy_json or "{}"), info.blocked)


def _model(info: Any) -> ModelStatus:
    copies = (CopyStatus(PodId(copy.location), _status(copy.copyStatus), Millis(copy.time)) for copy in info.modelCopyInfos)
    return ModelStatus(_status(info.status), tuple(info.errors), tuple(copies))


def _status(number: int) -> ModelState:
    return ModelState(number) if number in {one.value for one in ModelState} else ModelState.UNKNOWN
