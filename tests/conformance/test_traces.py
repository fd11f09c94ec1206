"""A call's trace crosses the mesh: from the caller's span over queue, load and hop to the model server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from grpc import StatusCode
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from tests.integration.etcd.server import Etcd
from tests.support.client import Conversation, refused, to
from tests.support.cluster import Cluster, a_cluster, chosen_places
from tests.support.http import plain
from tests.support.receiver import Receiver, receiving
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METHOD = "mmesh.ExamplePredictor/predict"


@dataclass(frozen=True)
class Span:
    """A span as it was received; ids in hexadecimal, times in ns."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    pod: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str], receiver: Receiver) -> Iterator[Cluster]:
    environment = {
        **chosen_places(2),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "MM_LOG_REQUEST_HEADERS": '{"x-user": "user"}',
        "MM_LOG_EACH_INVOKE": "true",
    }
    limited = Behaviour(max_concurrency=1)
    with a_cluster(
        tmp_path_factory.mktemp("traces"), f"etcd:{etcd.address}", 2, service=service(), behaviour=limited, environment=environment
    ) as two:
        yield two


def value(item: Any) -> Any:
    return getattr(item, item.WhichOneof("value"))


def spans(receiver: Receiver) -> list[Span]:
    found = []
    for post in receiver.at("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(post.body).resource_spans:
            about = {item.key: value(item.value) for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                found += [read(span, about["service.instance.id"]) for span in scope.spans]
    return found


def read(span: Sent, pod: str) -> Span:
    attributes = {item.key: value(item.value) for item in span.attributes}
    kind = Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return Span(span.name, kind, *ids, pod, span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2, attributes)


def of_model(receiver: Receiver, model: str, *names: str) -> dict[str, Span]:
    """The spans of a trace in which a model was called, by name, once all of these names are there; the calls' own by name and pod."""

    def found() -> dict[str, Span]:
        every = spans(receiver)
        traces = {span.trace for span in every if span.attributes.get("mesh.model") == model}
        return {f"{span.name}@{span.pod}" if span.kind == "SERVER" else span.name: span for span in every if span.trace in traces}

    until(lambda: set(names) <= found().keys(), f"spans {names} of {model}")
    return found()


def test_a_cold_call_through_another_pod_is_one_trace(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.register(model, f"SIZE_{MIB}_300_0", kind="on-1")
    answer = two[0].client.predict(model, "test:metadata", metadata=(("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=b")))
    at_first, at_second = f"{METHOD}@{two[0].id}", f"{METHOD}@{two[1].id}"
    found = of_model(receiver, model, at_first, "hop", at_second, "wait for load", "load", "runtime")
    assert {span.trace for span in found.values()} == {TRACE}
    assert found[at_first].parent == PARENT
    assert found["hop"].parent == found[at_first].id
    assert found[at_second].parent == found["hop"].id
    assert found["wait for load"].parent == found["runtime"].parent == found[at_second].id
    assert found["load"].parent == found["wait for load"].id
    assert (found["hop"].pod, found["runtime"].pod) == (two[0].id, two[1].id)
    assert [found[name].kind for name in ("hop", "runtime", "load")] == ["CLIENT", "CLIENT", "INTERNAL"]
    assert found["hop"].attributes == {"mesh.pod": two[1].id, "mesh.why": "load", "mesh.model": model}
    assert found[at_second].attributes["mesh.sender"] == two[0].id
    assert found[at_first].attributes["rpc.method"] == "predict"
    assert found["wait for load"].end <= found["runtime"].start
    for child, parent in (("hop", at_first), (at_second, "hop"), ("load", "wait for load")):
        assert found[parent].start <= found[child].start <= found[child].end <= found[parent].end + 50_000_000, child
    seen = {item.name: item.value.decode() for item in answer.headers}
    assert seen["traceparent"] == f"00-{TRACE}-{found['runtime'].id}-01", "the model server's spans belong to the call of the runtime"
    assert seen["tracestate"] == "a=b"


def test_a_call_without_a_trace_begins_one_and_knows_its_alias(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.register(model, kind="on-0")
    two[0].client.set_alias(f"{model}-alias", model)
    answer = two[0].client.predict("", "test:metadata", metadata=(("mm-vmodel-id", f"{model}-alias"),))
    found = of_model(receiver, model, f"{METHOD}@{two[0].id}", "runtime")
    root = found[f"{METHOD}@{two[0].id}"]
    assert root.parent == ""
    assert root.attributes["mesh.alias"] == f"{model}-alias"
    assert "hop" not in found
    seen = {item.name: item.value.decode() for item in answer.headers}
    assert seen["traceparent"].startswith(f"00-{root.trace}-{found['runtime'].id}-")


def test_waiting_for_a_turn_is_a_span(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.loaded(model, kind="on-0")
    two[0].client.predict(model)
    found = of_model(receiver, model, f"{METHOD}@{two[0].id}", "queue", "runtime")
    assert found["queue"].attributes["mesh.of"] == "calls"
    assert found["queue"].end <= found["runtime"].start


def test_a_failure_is_one_in_each_span_that_it_crossed(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.loaded(model, kind="on-1")
    with refused(StatusCode.ABORTED):
        two[0].client.predict(model, "test:error:code=ABORTED:message=no")
    found = of_model(receiver, model, f"{METHOD}@{two[0].id}", f"{METHOD}@{two[1].id}", "hop", "runtime")
    for name in (f"{METHOD}@{two[0].id}", f"{METHOD}@{two[1].id}", "hop", "runtime"):
        assert found[name].failed
        assert found[name].attributes["rpc.grpc.status_code"] == StatusCode.ABORTED.value[0]


def test_a_stream_is_a_span_from_its_first_to_its_last_message(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.loaded(model, kind="on-1")
    talk = Conversation(two[0].client, to(model))
    for text in ("one", "two"):
        talk.say(text)
        talk.hear()
    talk.end()
    assert list(talk.answers) == []
    name = "mmesh.ExamplePredictor/predictStream"
    found = of_model(receiver, model, f"{name}@{two[0].id}", f"{name}@{two[1].id}", "hop", "runtime")
    assert found[f"{name}@{two[1].id}"].parent == found["hop"].id
    assert found[f"{name}@{two[0].id}"].end > found["hop"].end
    assert not any(span.failed for span in found.values())


def test_rest_takes_the_trace_of_its_caller(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.loaded(model, kind="on-0")
    trace = "1bf7651916cd43dd8448eb211c80319c"
    document = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
    plain.post(f"{two[0].router.rest}/v2/models/{model}/infer", json=document, headers=headers, timeout=30).raise_for_status()
    found = of_model(receiver, model, "runtime")
    assert {span.trace for span in found.values()} == {trace}


def test_an_unsampled_trace_is_passed_on_and_not_told(two: Cluster, receiver: Receiver, model: str) -> None:
    two[0].client.loaded(model, kind="on-0")
    trace = "2cf7651916cd43dd8448eb211c80319c"
    answer = two[0].client.predict(model, "test:metadata", metadata=(("traceparent", f"00-{trace}-{PARENT}-00"),))
    seen = {item.name: item.value.decode() for item in answer.headers}
    assert seen["traceparent"].startswith(f"00-{trace}-")
    assert seen["traceparent"].endswith("-00")
    two[0].client.predict(model)
    of_model(receiver, model, "runtime")
    assert not [span for span in spans(receiver) if span.trace == trace]


def test_the_log_of_each_pod_names_the_trace_and_the_configured_headers(two: Cluster, model: str) -> None:
    trace = "3df7651916cd43dd8448eb211c80319c"
    two[0].client.loaded(model, kind="on-1")
    two[0].client.predict(model, metadata=(("traceparent", f"00-{trace}-{PARENT}-01"), ("x-user", "ann")))

    def line() -> dict[str, Any] | None:
        lines = [json.loads(text) for text in two[1].router.process.output().splitlines() if text.startswith("{")]
        return next((one for one in lines if "invoking model runtime" in one.get("message", "") and one.get("trace_id") == trace), None)

    found = until(line, "the line of the pod that served the call")
    assert found is not None
    assert (found["user"], found["model"]) == ("ann", model)
