"""Stories of tritonclient's streams: they need a server that answers as Triton does, each response in a wrapping that may hold an error."""

from __future__ import annotations

import queue
from typing import Any

import numpy
import stories  # type: ignore[import-not-found]
import tritonclient.grpc as triton  # type: ignore[import-not-found]
from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]

Where = dict[str, Any]


def _tensor(*values: float) -> Any:
    tensor = triton.InferInput("x", [len(values)], "FP32")
    tensor.set_data_from_numpy(numpy.array(values, dtype=numpy.float32))
    return tensor


def every_message_is_answered_in_order(where: Where) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(where["grpc"]) as client:
        client.start_stream(lambda result, error: heard.put((result, error)))
        for number in range(20):
            client.async_stream_infer(where["model"], [_tensor(number, -number)], request_id=str(number))
        found = [heard.get(timeout=30) for _ in range(20)]
        client.stop_stream()
    assert [error for _, error in found if error] == []
    assert [result.get_response().id for result, _ in found] == [str(number) for number in range(20)]
    assert [result.as_numpy("x").tolist() for result, _ in found] == [[number, -number] for number in range(20)]


def an_answer_comes_before_the_next_message_is_sent(where: Where) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(where["grpc"]) as client:
        client.start_stream(lambda result, error: heard.put((result, error)))
        for number in range(3):
            client.async_stream_infer(where["model"], [_tensor(number)])
            result, error = heard.get(timeout=30)
            assert error is None
            assert result.as_numpy("x").tolist() == [number]
        client.stop_stream()


def a_stream_to_an_unknown_model_is_told(where: Where) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(where["grpc"]) as client:
        client.start_stream(lambda result, error: heard.put((result, error)))
        client.async_stream_infer("nobody", [_tensor(1)])
        _, error = heard.get(timeout=30)
        client.stop_stream()
    assert isinstance(error, InferenceServerException)
    assert error.status() == "StatusCode.NOT_FOUND", error


def a_cancelled_stream_leaves_the_model_alone(where: Where) -> None:
    with triton.InferenceServerClient(where["grpc"]) as client:
        client.start_stream(lambda result, error: None)
        client.async_stream_infer(where["model"], [_tensor(1)])
        client.stop_stream(cancel_requests=True)
        assert client.infer(where["model"], [_tensor(2)]).as_numpy("x").tolist() == [2]


if __name__ == "__main__":
    stories.run(globals())
