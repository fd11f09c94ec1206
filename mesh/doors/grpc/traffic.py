"""`mesh.management.v1.Traffic`: versions of services and how they share calls, beside `mmesh.ModelMesh`."""

from __future__ import annotations

import json
from typing import Any

import grpc
from google.protobuf.message import Message

from mesh.core.errors import Malformed
from mesh.doors.grpc.management import model_status
from mesh.doors.grpc.status import Context, Method, unary
from mesh.pod.versions import ServiceTraffic, Versions
from mesh.protocols import management_pb2 as pb

SERVICE = "mesh.management.v1.Traffic"


class TrafficService(grpc.GenericRpcHandler):
    """What it does is in `mesh.pod.versions`."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        methods: dict[str, tuple[Method, Any]] = {
            "GetTraffic": (self._get, pb.GetTrafficRequest),
            "Shift": (self._shift, pb.ShiftRequest),
            "SetPolicy": (self._set_policy, pb.SetPolicyRequest),
        }
        self._handlers = {f"/{SERVICE}/{name}": unary(method, request) for name, (method, request) in methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of one of its methods; None for any other."""
        return self._handlers.get(handler_call_details.method)

    async def _get(self, request: pb.GetTrafficRequest, _: Context) -> Message:
        return _message(await self._versions.traffic(request.service), self._versions)

    async def _shift(self, request: pb.ShiftRequest, _: Context) -> Message:
        return _message(await self._versions.shift(request.service, request.version, request.percent, request.owner), self._versions)

    async def _set_policy(self, request: pb.SetPolicyRequest, _: Context) -> Message:
        try:
            data = json.loads(request.policy_json or "{}")
        except ValueError as error:
            raise Malformed(f"policy_json is not JSON: {error}") from None
        return _message(await self._versions.set_policy(request.service, data, request.owner), self._versions)


def _message(told: ServiceTraffic, versions: Versions) -> pb.ServiceTraffic:
    return pb.ServiceTraffic(
        service=told.service,
        owner=told.owner,
        versions=[
            pb.ServiceTraffic.Version(
                number=one.version.number,
                model_id=one.version.model,
                since=one.version.at,
                percent=one.percent,
                stable=one.stable,
                next=one.next,
                status=model_status(versions.status(one.version.model)),
            )
            for one in told.versions
        ],
        policy_json=json.dumps(told.policy),
        blocked=told.blocked,
    )
