"""The log: one JSON object a line on standard output, with the headers of the request that a line is about."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from mesh.core.errors import Malformed
from mesh.telemetry import traces

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_OWN_KEYS = ("ts", "level", "logger", "message", "event", "exception", "stack")
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What `logging` (and uvicorn) puts into each record; anything else was given as `extra`. `taskName` comes with Python 3.12."""

_request: ContextVar[Mapping[str, str]] = ContextVar("request headers", default=MappingProxyType({}))
_wanted: dict[str, str] = {}
_writing = threading.Lock()


_CHATTY = ("grpc", "asyncio", "httpx", "httpcore", "hpack", "urllib3")
"""Libraries that at DEBUG say more a call than the router does."""


def setup(level: str = "INFO", request_headers: str = "") -> None:
    """Sends the log of the whole process to standard output; a second call replaces what the first one set.

    Args:
        level: DEBUG, INFO, WARNING or ERROR (`MESH_LOG_LEVEL`).
        request_headers: JSON object from header name to log key (`MM_LOG_REQUEST_HEADERS`); "" wants none.

    Raises:
        Malformed: names the variable and its fault; nothing is changed then.
    """
    name = level.strip().upper()
    if name not in _LEVELS:
        raise Malformed(f"MESH_LOG_LEVEL={level} is no level; choose one of {', '.join(_LEVELS)}")
    wanted = parse_request_headers(request_headers) if request_headers else {}
    _wanted.clear()
    _wanted.update(wanted)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(handler)
    root.addHandler(_Lines())
    root.setLevel(name)
    for library in _CHATTY:
        logging.getLogger(library).setLevel(max(logging.getLevelName(name), logging.WARNING))


def parse_request_headers(text: str) -> dict[str, str]:
    """Header name, in lower case, to log key.

    Raises:
        Malformed: the text is not a JSON object with at least one header, each with a key of its own that no line uses otherwise.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_headers(f"is not JSON: {error}") from None
    if not isinstance(document, dict) or not document:
        raise _bad_headers("is not an object with at least one header; unset it to log none")
    for header, key in document.items():
        if not header or not isinstance(key, str) or not key:
            raise _bad_headers(f"has {json.dumps({header: key})}, where both header and log key must be non-empty text")
        if key in _OWN_KEYS:
            raise _bad_headers(f'has the log key "{key}", which every line uses already; choose another')
    found = {header.lower(): key for header, key in document.items()}
    if len(set(found.values())) < len(document):
        raise _bad_headers("has one header or log key twice")
    return found


def request(metadata: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[object]:
    """While this is entered, the lines of the current task, and of tasks it starts, carry the configured headers of `metadata`.

    A header that comes more than once counts with its first value; a `-bin` value is read as UTF-8, and what is none is replaced.
    """
    if not _wanted:
        return nullcontext()
    found: dict[str, str] = {}
    for name, value in metadata:
        if (key := _wanted.get(name)) is not None:
            found.setdefault(key, value.decode(errors="replace") if isinstance(value, bytes) else value)
    return _Request(found) if found else nullcontext()


def event(name: str, **fields: Any) -> None:
    """Prints a line for programs that wait for `name`, whatever the log level: `{"event": "listening", "ts": …, "port": 8033}`."""
    _print({"event": name, "ts": _timestamp(datetime.now(UTC))} | fields)


class _Request:
    def __init__(self, found: Mapping[str, str]) -> None:
        self._found = found
        self._token: Token[Mapping[str, str]] | None = None

    def __enter__(self) -> None:
        self._token = _request.set(self._found)

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        # A stream that its caller gave up is ended by another task, whose lines never had these headers.
        with suppress(ValueError):
            _request.reset(self._token)


class _Lines(logging.Handler):
    """Writes each record to what `sys.stdout` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _print(self._line(record))
        except Exception:
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> dict[str, Any]:
        line: dict[str, Any] = {
            "ts": _timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in (*_request.get().items(), *traces.ids().items(), *vars(record).items()):
            if key not in _OF_EVERY_RECORD:
                line.setdefault(key, value)
        if record.exc_info:
            line["exception"] = logging.Formatter().formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return line


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print(line: Mapping[str, Any]) -> None:
    try:
        # ASCII only: a line can be written in whatever encoding standard output has, lone surrogates included.
        text = json.dumps(line, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps({str(key): str(value) for key, value in line.items()})
    with _writing:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _bad_headers(fault: str) -> Malformed:
    return Malformed(f'MM_LOG_REQUEST_HEADERS {fault}; it looks like {{"x-request-id": "request_id"}}')
