"""Stories of tritonclient's HTTP client on a real MLServer behind the mesh."""

from __future__ import annotations

from typing import Any

import numpy
import stories  # type: ignore[import-not-found]
import tritonclient.http as triton  # type: ignore[import-not-found]
from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]

Where = dict[str, Any]


def _client(where: Where, **options: Any) -> Any:
    return triton.InferenceServerClient(where["rest"].removeprefix("http://"), **options)


def _pixels(where: Where, *, binary: bool) -> Any:
    tensor = triton.InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(numpy.array([where["pixels"]], dtype=numpy.float32), binary_data=binary)
    return tensor


def _digit(where: Where, *, binary_in: bool, binary_out: bool, **options: Any) -> Any:
    wanted = [triton.InferRequestedOutput("predict", binary_data=binary_out)]
    with _client(where) as client:
        answer = client.infer(where["model"], [_pixels(where, binary=binary_in)], outputs=wanted, **options)
    assert answer.as_numpy("predict").tolist() == [[8]]
    assert answer.as_numpy("predict").dtype == numpy.int64
    return answer


def the_server_is_live_and_ready(where: Where) -> None:
    with _client(where) as client:
        assert client.is_server_live()
        assert client.is_server_ready()


def the_server_tells_its_name_and_extensions(where: Where) -> None:
    with _client(where) as client:
        metadata = client.get_server_metadata()
    assert metadata["name"] == "modelmesh-router", metadata
    assert "binary_tensor_data" in metadata["extensions"]


def a_model_is_ready_and_an_unknown_one_is_not(where: Where) -> None:
    with _client(where) as client:
        assert client.is_model_ready(where["model"])
        assert not client.is_model_ready("nobody")


def a_model_tells_its_metadata(where: Where) -> None:
    with _client(where) as client:
        metadata = client.get_model_metadata(where["model"])
    assert metadata["name"].startswith(where["model"]), metadata


def binary_tensors_both_ways(where: Where) -> None:
    answer = _digit(where, binary_in=True, binary_out=True)
    assert answer.get_output("predict")["parameters"]["binary_data_size"] == 8


def binary_in_and_json_out(where: Where) -> None:
    answer = _digit(where, binary_in=True, binary_out=False)
    assert answer.get_output("predict")["data"] == [8]


def json_in_and_binary_out(where: Where) -> None:
    answer = _digit(where, binary_in=False, binary_out=True)
    assert "data" not in answer.get_output("predict")


def json_both_ways(where: Where) -> None:
    answer = _digit(where, binary_in=False, binary_out=False)
    assert answer.get_output("predict")["data"] == [8]


def without_named_outputs_all_come_binary(where: Where) -> None:
    with _client(where) as client:
        answer = client.infer(where["model"], [_pixels(where, binary=True)], request_id="seven")
    assert answer.as_numpy("predict").tolist() == [[8]]
    assert answer.get_response()["id"] == "seven"
    assert "binary_data_size" in answer.get_output("predict")["parameters"]


def compressed_requests_and_answers(where: Where) -> None:
    for algorithm in ("gzip", "deflate"):
        for binary in (True, False):
            _digit(where, binary_in=binary, binary_out=binary, request_compression_algorithm=algorithm)
            _digit(where, binary_in=binary, binary_out=binary, response_compression_algorithm=algorithm)
            both = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
            _digit(where, binary_in=binary, binary_out=binary, **both)


def parameters_and_headers_travel(where: Where) -> None:
    parameters = {"text": "a word", "number": 7, "truth": True}
    _digit(where, binary_in=True, binary_out=True, parameters=parameters, headers={"x-request-id": "1"}, query_params={"a": "b"})


def many_calls_at_a_time_all_answer(where: Where) -> None:
    with _client(where, concurrency=8) as client:
        pending = [client.async_infer(where["model"], [_pixels(where, binary=True)]) for _ in range(50)]
        assert [one.get_result().as_numpy("predict").tolist() for one in pending] == [[[8]]] * 50


def the_repository_lists_the_model(where: Where) -> None:
    with _client(where) as client:
        index = client.get_model_repository_index()
    assert {model["name"]: model["state"] for model in index}[where["model"]] == "READY", index


def an_unknown_model_is_not_found(where: Where) -> None:
    with _client(where) as client:
        with stories.failing(InferenceServerException) as failure:
            client.infer("nobody", [_pixels(where, binary=True)])
        assert failure.error.status() == "404"
        assert "nobody" in failure.error.message()


def a_wrong_datatype_is_refused_with_a_reason(where: Where) -> None:
    tensor = _pixels(where, binary=True)
    tensor._datatype = "FP23"  # the client itself makes no such mistake
    with _client(where) as client:
        with stories.failing(InferenceServerException) as failure:
            client.infer(where["model"], [tensor])
        assert failure.error.status() == "400"
        assert "FP23" in failure.error.message()


def a_wrong_shape_is_the_models_own_error(where: Where) -> None:
    tensor = triton.InferInput("predict", [1, 3], "FP32")
    tensor.set_data_from_numpy(numpy.zeros((1, 3), dtype=numpy.float32))
    with _client(where) as client:
        with stories.failing(InferenceServerException) as failure:
            client.infer(where["model"], [tensor])
        assert "64" in failure.error.message()


if __name__ == "__main__":
    stories.run(globals())
