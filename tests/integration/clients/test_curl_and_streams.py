"""curl with the walkthrough's body, and streams of MLServer's own shape."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import grpc
import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.clients.conftest import MODEL
from tests.integration.models.stack import BODY, EIGHT, PATIENCE, WALKTHROUGH, Stack, digit_of, digit_request

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(300)]
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def curl(*arguments: str) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text) if text else None


def contains(answer: Any, expected: Any) -> bool:
    """Whether all that is expected stands there, with that value and type; more may stand beside it."""
    if isinstance(expected, dict):
        return isinstance(answer, dict) and all(key in answer and contains(answer[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(answer, list) and len(answer) == len(expected) and all(map(contains, answer, expected))
    return type(answer) is type(expected) and bool(answer == expected)


def test_the_walkthroughs_curl_gives_the_walkthroughs_answer(stack: Stack) -> None:
    status, answer = curl("-X", "POST", f"{stack.rest}/v2/models/{MODEL}/infer", "-d", f"@{BODY}")
    assert status == 200, answer
    expected = json.loads((WALKTHROUGH / "bodies" / "sklearn-mnist.answer.json").read_text())
    assert contains(answer, expected), answer


def test_a_compressed_body_from_curl(stack: Stack) -> None:
    body = json.dumps({"inputs": [{"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": EIGHT}]})
    compressed = subprocess.run(["gzip", "-c"], input=body.encode(), capture_output=True, check=True).stdout
    file = stack.claim.parent / "body.json.gz"
    file.write_bytes(compressed)
    url = f"{stack.rest}/v2/models/{MODEL}/infer"
    status, answer = curl("-H", "Content-Encoding: gzip", "--compressed", "--data-binary", f"@{file}", url)
    assert (status, answer["outputs"][0]["data"]) == (200, [8])


def test_a_wrong_body_from_curl_is_told_why(stack: Stack) -> None:
    status, answer = curl("-X", "POST", f"{stack.rest}/v2/models/{MODEL}/infer", "-d", '{"inputs": [')
    assert status == 400
    assert answer["error"]


def streamed(channel: grpc.Channel, model: str) -> list[v2.ModelInferResponse]:
    """MLServer answers with responses where Triton wraps them, so the method is called by its name and these types."""
    call: grpc.StreamStreamMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.stream_stream(
        STREAM, v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    return list(call(iter([digit_request(model)]), timeout=PATIENCE))


def test_a_stream_of_mlserver_is_answered(stack: Stack) -> None:
    answers = streamed(stack.client.channel, MODEL)
    assert [digit_of(answer) for answer in answers] == [8]
    assert answers[0].model_name == stack.concrete(MODEL)


def test_a_stream_to_an_unknown_model_is_refused(stack: Stack) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        streamed(stack.client.channel, "nobody")
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
