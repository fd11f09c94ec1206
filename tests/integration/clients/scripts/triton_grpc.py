"""Stories of tritonclient's gRPC client on a real MLServer behind the mesh."""

from __future__ import annotations

import queue
from typing import Any

import numpy
import stories  # type: ignore[import-not-found]
import tritonclient.grpc as triton  # type: ignore[import-not-found]
from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]

Where = dict[str, Any]


def _client(where: Where) -> Any:
    return triton.InferenceServerClient(where["grpc"])


def _pixels(where: Where) -> Any:
    tensor = triton.InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(numpy.array([where["pixels"]], dtype=numpy.float32))
    return tensor


def the_server_is_live_and_ready(where: Where) -> None:
    with _client(where) as client:
        assert client.is_server_live()
        assert client.is_server_ready()


def the_server_tells_its_name_and_extensions(where: Where) -> None:
    with _client(where) as client:
        metadata = client.get_server_metadata()
    assert metadata.name == "modelmesh-router"
    assert list(metadata.extensions) == ["binary_tensor_data", "parameters"]


def a_model_is_ready_and_an_unknown_one_is_told(where: Where) -> None:
    with _client(where) as client:
        assert client.is_model_ready(where["model"])
        with stories.failing(InferenceServerException) as failure:
            client.is_model_ready("nobody")
    assert failure.error.status() == "StatusCode.NOT_FOUND"


def a_model_tells_its_metadata(where: Where) -> None:
    with _client(where) as client:
        metadata = client.get_model_metadata(where["model"], as_json=True)
    assert metadata["name"].startswith(where["model"]), metadata


def raw_tensors_are_answered_raw(where: Where) -> None:
    with _client(where) as client:
        answer = client.infer(where["model"], [_pixels(where)], request_id="seven")
    assert answer.as_numpy("predict").tolist() == [[8]]
    assert answer.as_numpy("predict").dtype == numpy.int64
    response = answer.get_response()
    assert response.id == "seven"
    assert response.raw_output_contents


def outputs_and_parameters_travel(where: Where) -> None:
    with _client(where) as client:
        wanted = [triton.InferRequestedOutput("predict")]
        parameters = {"text": "a word", "number": 7, "truth": True}
        answer = client.infer(where["model"], [_pixels(where)], outputs=wanted, parameters=parameters, headers={"x-request-id": "1"})
    assert answer.as_numpy("predict").tolist() == [[8]]


def a_compressed_request_is_read(where: Where) -> None:
    with _client(where) as client:
        for algorithm in ("gzip", "deflate"):
            answer = client.infer(where["model"], [_pixels(where)], compression_algorithm=algorithm)
            assert answer.as_numpy("predict").tolist() == [[8]]


def many_calls_at_a_time_all_answer(where: Where) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with _client(where) as client:
        for _ in range(50):
            client.async_infer(where["model"], [_pixels(where)], callback=lambda result, error: answers.put((result, error)))
        found = [answers.get(timeout=30) for _ in range(50)]
    assert [error for _, error in found if error] == []
    assert {int(result.as_numpy("predict")[0][0]) for result, _ in found} == {8}


def the_repository_lists_the_model(where: Where) -> None:
    with _client(where) as client:
        index = client.get_model_repository_index(as_json=True)
    states = {model["name"]: model["state"] for model in index["models"]}
    assert states[where["model"]] == "READY", states


def loading_is_offered_and_unloading_is_refused_with_a_reason(where: Where) -> None:
    with _client(where) as client:
        client.load_model(where["model"])
        with stories.failing(InferenceServerException) as failure:
            client.unload_model(where["model"])
        assert failure.error.status() == "StatusCode.UNIMPLEMENTED"
        assert "delete the InferenceService" in failure.error.message()


def an_unknown_model_is_not_found(where: Where) -> None:
    with _client(where) as client:
        with stories.failing(InferenceServerException) as failure:
            client.infer("nobody", [_pixels(where)])
        assert failure.error.status() == "StatusCode.NOT_FOUND"


def a_wrong_shape_is_the_models_own_error(where: Where) -> None:
    tensor = triton.InferInput("predict", [1, 3], "FP32")
    tensor.set_data_from_numpy(numpy.zeros((1, 3), dtype=numpy.float32))
    with _client(where) as client:
        with stories.failing(InferenceServerException) as failure:
            client.infer(where["model"], [tensor])
        assert "64" in failure.error.message()


if __name__ == "__main__":
    stories.run(globals())
