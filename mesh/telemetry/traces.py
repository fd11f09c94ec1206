"""Traces of OpenTelemetry: spans for calls, waits, loads, hops and the runtime (docs/tracing.md).

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set: then each of these functions costs one comparison. The SDK is an optional dependency, which
is imported only when they are on. Which spans belong together is kept in a variable of the task, and between pods in W3C's `traceparent`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, NamedTuple

from mesh.core.errors import Code, Malformed, Unsupported

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanKind, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADERS = ("traceparent", "tracestate")
"""W3C Trace Context; every other header of a call passes through as it is."""
LOADS_KEPT = 1_024
"""Latest loads whose times are kept for the calls that waited for them."""
LAST_SPANS = 5.0
"""Seconds at the end in which spans are still sent."""
TOLD_EVERY = 60.0
"""Seconds between two lines of the log about a receiver that does not answer."""

_log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str | bytes], ...]
_NONE: AbstractContextManager[None] = nullcontext()


class _Seldom(logging.Filter):
    """Lets through what the exporter says of a receiver that does not answer, which it says of every batch and every try, once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told; says what it is about."""
        if record.created < self._next:
            return False
        self._next = record.created + TOLD_EVERY
        record.msg, record.args = f"spans are not sent, which is told once a minute: {record.getMessage()}", ()
        return True


_SELDOM = _Seldom()
_URL = re.compile(r"https?://[^/\s]+", re.IGNORECASE)


class _Times(NamedTuple):
    """Of a load, in epoch nanoseconds."""

    queued: int
    begun: int
    ended: int


class _On:
    """What there is while traces are on."""

    def __init__(self, tracer: Tracer, provider: TracerProvider) -> None:
        self.tracer, self.provider = tracer, provider
        self.loads: OrderedDict[str, _Times] = OrderedDict()


_on: _On | None = None
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def begin(service: str, instance: str, environ: Mapping[str, str]) -> None:
    """Switches traces on, if the environment names a receiver. Everything else is set as OpenTelemetry says: `OTEL_TRACES_SAMPLER`, ….

    Args:
        service: name of the mesh, told as `service.name` unless `OTEL_SERVICE_NAME` is set.
        instance: id of the pod, told as `service.instance.id`.
        environ: the environment.

    Raises:
        Malformed: what is named is no URL of a receiver.
        Unsupported: a receiver is named, and the SDK is not installed.
    """
    global _on
    named = next((name for name in ENDPOINTS if environ.get(name)), None)
    if named is None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    if not _URL.match(environ[named]):
        raise Malformed(f"{named}={environ[named]} is no URL of a receiver, such as http://collector:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Unsupported(f"{named} is set, but OpenTelemetry is not installed; install modelmesh-router[otel] or unset it") from None
    about = {"service.instance.id": instance} | ({} if environ.get("OTEL_SERVICE_NAME") else {"service.name": service})
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_SELDOM)
    _on = _On(provider.get_tracer("modelmesh"), provider)


def exported() -> bool:
    """Whether traces are switched on."""
    return _on is not None


async def end(within: float = LAST_SPANS) -> None:
    """Sends what is left, for some seconds at most, and switches traces off."""
    global _on
    if _on is not None:
        provider, _on = _on.provider, None
        # A thread that the process does not wait for: the SDK's own limits do not hold while a receiver is silent.
        last = threading.Thread(target=provider.shutdown, name="sending the last spans", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, within)
        if last.is_alive():
            _log.warning("the last spans are not sent: the receiver does not take them within %g s", within)


def served(method: str, headers: Headers, pod: str = "") -> AbstractContextManager[object]:
    """A call that came in, from a client or another pod; part of the trace that its headers name.

    Args:
        method: pkg.Service/Method.
        headers: of the call.
        pod: the one that passed it on; empty for a client's.
    """
    if _on is None:
        return _NONE
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = {name: value for name, value in headers if name in HEADERS and isinstance(value, str)}
    service, _, name = method.removeprefix("/").rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name} | ({"mesh.sender": pod} if pod else {})
    context = TraceContextTextMapPropagator().extract(given)
    return _Scope(_on.tracer.start_span(method.removeprefix("/"), context, SpanKind.SERVER, attributes))


def span(name: str, **attributes: str) -> AbstractContextManager[object]:
    """A step of the call that this task serves; nothing if it serves none."""
    if _on is None or _current.get() is None:
        return _NONE
    from opentelemetry.trace import SpanKind

    return _Scope(_start(_on, name, SpanKind.INTERNAL, attributes))


def sent(name: str, **attributes: str) -> AbstractContextManager[object]:
    """As `span`, for a call of the runtime or of another pod; `outgoing` names it in what is sent."""
    if _on is None or _current.get() is None:
        return _NONE
    from opentelemetry.trace import SpanKind

    return _Scope(_start(_on, name, SpanKind.CLIENT, attributes))


def about(**attributes: str) -> None:
    """Adds what is known by now to the current span."""
    if _on is not None and (current := _current.get()) is not None:
        current.set_attributes(_told(attributes))


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the current span, in hexadecimal, for the log; nothing without one."""
    if _on is None or (current := _current.get()) is None:
        return {}
    context = current.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def outgoing(headers: Headers) -> Headers:
    """The headers of a call that is sent: those given, which name the current span as where it comes from."""
    if _on is None or (current := _current.get()) is None:
        return headers
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(current))
    return (*[entry for entry in headers if entry[0] not in HEADERS], *carrier.items())


def loaded(model: str, waited_ms: float, took_ms: float) -> None:
    """The runtime has just ended a load, well or not, that had waited for its turn."""
    if _on is not None:
        now = time.time_ns()
        begun = now - int(took_ms * 1e6)
        _on.loads.pop(model, None)
        _on.loads[model] = _Times(begun - int(waited_ms * 1e6), begun, now)
        if len(_on.loads) > LOADS_KEPT:
            _on.loads.popitem(last=False)


def waits(model: str) -> AbstractContextManager[object]:
    """As `span`, for waiting until a model is loaded here: what happens of that meanwhile becomes the spans `queue` and `load` in it."""
    if _on is None or _current.get() is None:
        return _NONE
    from opentelemetry.trace import SpanKind

    return _Waiting(_on, model, _start(_on, "wait for load", SpanKind.INTERNAL, {"model": model}))


def _start(on: _On, name: str, kind: SpanKind, attributes: dict[str, str], at: int | None = None) -> Span:
    from opentelemetry.trace import set_span_in_context

    current = _current.get()
    assert current is not None
    return on.tracer.start_span(name, set_span_in_context(current), kind, _told(attributes), start_time=at)


def _told(attributes: dict[str, str]) -> dict[str, str]:
    return {key if "." in key else f"mesh.{key}": value for key, value in attributes.items() if value}


class _Scope:
    """A span that is the current one of its task while it is entered."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self._span)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave()
        if error is not None:
            self._fail(error)
        self._span.end()

    def _leave(self) -> None:
        assert self._token is not None
        # A stream that its caller gave up is ended by another task, which never had this span.
        with suppress(ValueError):
            _current.reset(self._token)

    def _fail(self, error: BaseException) -> None:
        from opentelemetry.trace import Status, StatusCode

        code = getattr(error, "code", None)
        if not isinstance(code, Code):
            code = Code.CANCELLED if isinstance(error, asyncio.CancelledError | GeneratorExit) else Code.INTERNAL
        self._span.set_attribute("rpc.grpc.status_code", code.value)
        self._span.set_status(Status(StatusCode.ERROR, str(error) or type(error).__name__))


class _Waiting(_Scope):
    """The span of waiting for a load."""

    def __init__(self, on: _On, model: str, span: Span) -> None:
        super().__init__(span)
        self._tracing, self._model, self._since = on, model, time.time_ns()

    def _leave(self) -> None:
        from opentelemetry.trace import SpanKind

        times = self._tracing.loads.get(self._model)
        if times is not None:
            for name, start, over in (("queue", times.queued, times.begun), ("load", times.begun, times.ended)):
                if over > self._since:
                    whole = {"model": self._model, "whole_ms": f"{(over - start) / 1e6:.3f}"}
                    _start(self._tracing, name, SpanKind.INTERNAL, whole, max(start, self._since)).end(over)
        super()._leave()
