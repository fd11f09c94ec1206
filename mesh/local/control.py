"""The control interface: JSON over HTTP on a Unix socket that only this user may use. Every other command talks to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from mesh.core.errors import MeshError, Unknown
from mesh.core.ids import AliasId
from mesh.local import explanations, rollouts, runtime_views, state, views
from mesh.local.asking import LocalPods
from mesh.local.supervisor import Supervisor
from mesh.manifests.documents import TrafficPolicy
from mesh.manifests.parsing import parse_value

_ASKED_NOW = 200
"""Up to so many services are asked about at the moment they are shown; of more, the state of the last round is shown."""


async def serve(supervisor: Supervisor) -> None:
    """Serves until cancelled. OSError if the socket cannot be made."""
    path = supervisor.folder.socket
    path.unlink(missing_ok=True)  # the folder's lock is ours: what lies here is left over
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(state.socket_address(path))
        path.chmod(0o600)
        config = uvicorn.Config(
            _application(supervisor), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await serving
            raise
        finally:
            path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """One that leaves signals to the supervisor."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _application(supervisor: Supervisor) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(MeshError)
    async def refused(_: Request, error: MeshError) -> JSONResponse:
        return JSONResponse({"error": error.message}, error.http)

    @app.get("/v1/status")
    async def status() -> Any:
        return supervisor.status()

    @app.post("/v1/stop")
    async def stop() -> Any:
        supervisor.stopping.set()
        return {"pid": supervisor.context.pid}

    _documents(app, supervisor)
    _rollouts(app, supervisor)
    _images(app, supervisor)
    _router(app, supervisor)
    return app


def _documents(app: FastAPI, supervisor: Supervisor) -> None:
    @app.post("/v1/documents")
    async def apply(request: Request) -> Any:
        batch = [parse_value(item["document"], item["origin"]) for item in await request.json()]
        results = supervisor.apply(batch)
        for one, result in zip(batch, results, strict=True):
            if isinstance(one.document, TrafficPolicy):
                result["note"] = await supervisor.policies.bring(one.document.service)
        return results

    @app.delete("/v1/documents/{kind}/{name}")
    async def delete(kind: str, name: str) -> Any:
        return {"note": supervisor.delete(kind, name)}

    @app.post("/v1/services/{name}/bounds")
    async def scale(name: str, request: Request) -> Any:
        changed = supervisor.apply([supervisor.documents.scaled(name, await request.json())])[0]["change"]
        return {**views.service(supervisor, next(one for one in supervisor.services() if one.document.name == name)), "change": changed}

    @app.get("/v1/services")
    async def services(name: str = "") -> Any:
        found = supervisor.services()
        if name:
            found = [one for one in found if one.document.name == name] or [supervisor.documents.get("InferenceService", name)]
        if len(found) <= _ASKED_NOW:
            with suppress(MeshError):
                await supervisor.controller.refresh(AliasId(one.document.name) for one in found)
        return [views.service(supervisor, one) for one in found]

    @app.get("/v1/runtimes")
    async def all_runtimes() -> Any:
        return await runtime_views.rows(supervisor)


def _rollouts(app: FastAPI, supervisor: Supervisor) -> None:
    @app.get("/v1/rollouts/{name}")
    async def rollout(name: str) -> Any:
        return await rollouts.told(supervisor, name)

    @app.post("/v1/rollouts/{name}")
    async def act(name: str, request: Request) -> Any:
        return await rollouts.act(supervisor, name, await request.json())

    @app.get("/v1/policies")
    async def policies(name: str = "") -> Any:
        found = [supervisor.documents.get("TrafficPolicy", name)] if name else list(supervisor.documents.of("TrafficPolicy"))
        return [views.policy(supervisor, one) for one in found]


def _images(app: FastAPI, supervisor: Supervisor) -> None:
    @app.get("/v1/images")
    async def images() -> Any:
        return {reference: str(folder) for reference, folder in sorted(supervisor.runtimes.images.folders().items())}

    @app.post("/v1/images")
    async def image(request: Request) -> Any:
        wanted = await request.json()
        if wanted["folder"]:
            supervisor.runtimes.images.put(wanted["reference"], Path(wanted["folder"]))
        else:
            known = supervisor.runtimes.images.folders()
            if wanted["reference"] not in known:
                raise Unknown(f"no folder stands for an image {wanted['reference']!r}; there are {', '.join(sorted(known)) or 'none'}")
            supervisor.runtimes.images.remove(wanted["reference"])
        supervisor.use_runtimes(rules_changed=False)
        return {"usedBy": supervisor.runtimes.users(wanted["reference"])}


def _router(app: FastAPI, supervisor: Supervisor) -> None:
    @app.get("/v1/pods")
    async def pods() -> Any:
        return await views.pod_rows(supervisor)

    @app.get("/v1/wanted")
    async def wanted() -> Any:
        return await views.wanted(supervisor)

    @app.get("/v1/explain")
    async def explain(name: str, kind: str = "", limit: int = 20) -> Any:
        return await explanations.explain(LocalPods(supervisor), name, kind, limit)

    @app.get("/v1/decisions")
    async def decisions(limit: int = 1000) -> Any:
        return await explanations.decisions(LocalPods(supervisor), limit)

    @app.get("/v1/models")
    async def models(request: Request) -> Any:
        return await views.model_page(supervisor, dict(request.query_params))

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Any:
        return await views.model(supervisor, name)
