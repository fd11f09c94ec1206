"""The REST door as an application: its routes, and the entrance before them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mesh.core.errors import MeshError, Unsupported
from mesh.doors.ports import EXTENSIONS, SERVER_NAME, Directory, Serving
from mesh.doors.rest import errors
from mesh.doors.rest.inference import Inference
from mesh.doors.rest.repository import Repository
from mesh.wire.call import RuntimeStatus

Endpoint = Callable[[Request], Awaitable[Response]]

LOADING = (
    "models are loaded when they are called and unloaded when room is needed; to have one loaded now, call mmesh.ModelMesh/ensureLoaded "
    "over gRPC; to add or remove one, apply or delete its InferenceService"
)
MEMORY = "shared memory is one host's own and a mesh has many; send tensors in the body, with the binary tensor extension for large ones"
TRACES = "trace and log settings belong to one model server; set them in its ServingRuntime"
STATISTICS = "statistics are kept by each model server; those of the mesh are Prometheus metrics on port 2112 (MM_METRICS)"
CONFIGURATION = "model configurations are not offered over REST; call inference.GRPCInferenceService/ModelConfig over gRPC"
STREAMS = "streams are not offered over REST; call inference.GRPCInferenceService/ModelStreamInfer over gRPC"

UNSUPPORTED = {
    "/v2/repository/models/{name}/load": LOADING,
    "/v2/repository/models/{name}/unload": LOADING,
    "/v2/systemsharedmemory/{rest:path}": MEMORY,
    "/v2/cudasharedmemory/{rest:path}": MEMORY,
    "/v2/trace/setting": TRACES,
    "/v2/models/{name}/trace/setting": TRACES,
    "/v2/logging": TRACES,
    "/v2/models/stats": STATISTICS,
} | {
    f"/v2/models/{{name}}{version}/{action}": text
    for version in ("", "/versions/{version}")
    for action, text in {
        "stats": STATISTICS,
        "config": CONFIGURATION,
        "generate": STREAMS,
        "generate_stream": STREAMS,
        "infer_stream": STREAMS,
    }.items()
}
"""Paths of the protocol's extensions that are not offered, and what to use instead."""


def create_app(serving: Serving, directory: Directory, *, version: str, max_message: int, lane_key: str = "") -> Starlette:
    """The REST door.

    Args:
        serving: carries out calls of models.
        directory: answers what the mesh knows by itself.
        version: shown by `GET /v2`.
        max_message: the largest body taken, in bytes.
        lane_key: as of `Inference`.
    """
    inference, repository = Inference(serving, directory, max_message, lane_key), Repository(directory)
    routes = [Route(path, _refuse(text), methods=["GET", "POST"]) for path, text in UNSUPPORTED.items()]
    routes += _of_the_server(directory, version)
    routes.append(Route("/v2/repository/index", repository.index, methods=["GET", "POST"]))
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes.append(Route(path + "/infer", inference.infer, methods=["POST"]))
        routes.append(Route(path + "/ready", inference.ready, methods=["GET"]))
        routes.append(Route(path, inference.metadata, methods=["GET"]))
    # Bodies are read by hand here and there is no schema to show: FastAPI would only cost time, most of it when it is imported.
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Entrance)],
        exception_handlers={MeshError: errors.of_mesh, RuntimeStatus: errors.of_runtime, HTTPException: errors.of_http},
    )
    app.router.redirect_slashes = False
    return app


def _of_the_server(directory: Directory, version: str) -> list[Route]:
    async def server(_: Request) -> Response:
        return _json({"name": SERVER_NAME, "version": version, "extensions": EXTENSIONS})

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        answer = directory.ready()
        return _json({"ready": answer}, 200 if answer else 503)

    return [
        Route("/v2", server, methods=["GET"]),
        Route("/v2/health/live", live, methods=["GET"]),
        Route("/v2/health/ready", ready, methods=["GET"]),
    ]


def _json(document: object, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


def _refuse(text: str) -> Endpoint:
    async def refuse(request: Request) -> Response:
        raise Unsupported(f"{request.scope['path']}: {text}")

    return refuse


def _caller(scope: Scope) -> str:
    """Who calls, for the log."""
    host, port = scope.get("client") or ("", 0)
    subject = scope.get("extensions", {}).get("tls", {}).get("client_cert_name")
    return f"{host}:{port}" if subject is None else f"{host}:{port} ({subject})"


class Entrance:
    """Routes by the path as it was sent, and answers for whatever goes wrong unexpectedly.

    Segments stay percent-encoded until a handler decodes its own, so that a model's name may hold any character, '/' as `%2F`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        path = scope["raw_path"].decode("latin-1")
        scope = {**scope, "path": path.rstrip("/") or "/"}
        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            answer = errors.of_bug(error, _caller(scope))
            if not started:
                await answer(scope, receive, send)
