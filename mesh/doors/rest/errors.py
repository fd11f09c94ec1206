"""The one place where an error of the mesh, or a runtime's own status, becomes an HTTP answer."""

from __future__ import annotations

import logging
import uuid

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mesh.core.errors import Bug, Code, Failed, Malformed, MeshError
from mesh.doors.rest import headers
from mesh.wire.call import REQUEST_ID, RuntimeStatus

log = logging.getLogger(__name__)

HTTP: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""HTTP status of a runtime's own status; the table of grpc-gateway, which clients of ModelMesh's REST proxy know."""


class BadAnswer(Failed):
    """The runtime answered OK with a message that contradicts itself or cannot be written as JSON."""

    code, http, label = Code.INTERNAL, 500, "answer"


def answer(status: int, code: Code, text: str, extra: dict[str, str] | None = None) -> Response:
    """The body that every error has: `error` for v2 clients, `code` and `message` for those of ModelMesh's REST proxy."""
    body = orjson.dumps({"error": text, "code": code.value, "message": text})
    return Response(body, status, extra, media_type="application/json")


def of_mesh(_: Request, error: Exception) -> Response:
    """An error of the mesh, with the HTTP status that its class names."""
    assert isinstance(error, MeshError)
    return of_mesh_error(error)


def of_runtime(_: Request, error: Exception) -> Response:
    """A runtime's own status, by the table; 401 carries `WWW-Authenticate`, as its text."""
    assert isinstance(error, RuntimeStatus)
    extra = headers.outward(error.headers) | headers.request_id(error.trailers)
    if error.code is Code.UNAUTHENTICATED:
        extra["www-authenticate"] = headers.printable(error.details) or "Bearer"
    return answer(HTTP[error.code], error.code, error.details or error.code.name, extra)


def of_http(request: Request, error: Exception) -> Response:
    """No such path, or not with this method: raised by the routes."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 404 and "/models//" in path + "/":
        return of_mesh(request, Malformed(f"{path}: the name of the model is empty; the path is /v2/models/NAME"))
    if error.status_code == 404:
        return answer(404, Code.NOT_FOUND, f"there is no {path} here; models are under /v2/models/NAME")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        text = f"{path} does not take {request.method}; it takes {allowed}"
        return answer(405, Code.UNIMPLEMENTED, text, {"allow": allowed})
    return answer(error.status_code, Code.UNKNOWN, str(error.detail))


def of_bug(error: Exception, caller: str) -> Response:
    """Anything unexpected: the caller gets an id, the log gets the same id, who called, and the traceback."""
    number = uuid.uuid4().hex[:12]
    log.error("bug %s in the REST door", number, exc_info=error, extra={"caller": caller})
    return of_mesh_error(Bug(f"unexpected error {number}; the router's log has the details under this id"))


def of_mesh_error(error: MeshError) -> Response:
    """As `of_mesh`, outside a route."""
    return answer(error.http, error.code, error.message, {REQUEST_ID: error.request} if error.request else None)
