"""`mesh infer`: one call of a model, over REST or gRPC."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from mesh.cli import output
from mesh.cli.client import MeshOption
from mesh.core.errors import Failed, Malformed
from mesh.local import state
from mesh.local.ports import HOST


def infer(
    name: Annotated[str, typer.Argument(help="The service.")],
    file: Annotated[str, typer.Option("--filename", "-f", metavar="BODY", help="The request as JSON: a file, or - for standard input.")],
    grpc: Annotated[bool, typer.Option("--grpc", help="Call over gRPC instead of REST.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="Wait at most so long.")] = 120.0,
    mesh: MeshOption = None,
) -> None:
    """Calls a model and prints its answer as JSON, in the form that the request has."""
    with output.plain_errors():
        body = _body(file)
        context = state.find(mesh)
        text = _over_grpc(name, body, context.grpc_port, timeout) if grpc else _over_rest(name, body, context.rest_port, timeout)
        sys.stdout.write(text.rstrip("\n") + "\n")


def _body(file: str) -> bytes:
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Malformed(f"{file}: cannot be read: {error.strerror}") from None
    try:
        json.loads(body)
    except ValueError as error:
        raise Malformed(f"{file}: is not JSON: {error}") from None
    return body


def _over_rest(name: str, body: bytes, port: int, timeout: float) -> str:
    url = f"http://{HOST}:{port}/v2/models/{quote(name, safe='')}/infer"
    try:
        answer = httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=timeout, trust_env=False)
    except httpx.TimeoutException:
        raise Failed(f"{name}: no answer within {timeout:g} s") from None
    except httpx.HTTPError as error:
        raise Failed(f"{url} does not answer: {error}; `mesh status` shows how the mesh is") from None
    if not answer.is_success:
        raise Failed(f"{name}: {_reason(answer)}")
    return answer.text


def _reason(answer: httpx.Response) -> str:
    try:
        document: Any = answer.json()
        return f"{document['error']} (HTTP {answer.status_code})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}: {answer.text[:500]}"


def _over_grpc(name: str, body: bytes, port: int, timeout: float) -> str:
    # Imported here: gRPC and the tensor codecs take longer to import than a REST call lasts.
    import grpc

    from mesh.doors.rest.binary import split
    from mesh.doors.rest.inference import decode, encode
    from mesh.protocols.inference_pb2_grpc import GRPCInferenceServiceStub

    part, tail = split(body, None)
    request, reply = decode(part, tail)
    request.model_name = name
    with grpc.insecure_channel(f"{HOST}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout)
        except grpc.RpcError as error:
            raise Failed(f"{name}: {error.details()} ({error.code().name})") from None
    return encode(answer.SerializeToString(), reply)[0].decode("utf-8")
