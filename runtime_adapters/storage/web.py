"""A web server: one GET per file, no directories."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from runtime_adapters.errors import AdapterError, Damaged, Denied, InvalidRequest, Missing, NotConfigured, Unreachable
from runtime_adapters.paths import clamp
from runtime_adapters.storage.parameters import Parameters, optional, required
from runtime_adapters.storage.transfer import ATTEMPTS, CHUNK, Progress
from runtime_adapters.turns import to_end

log = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds without a byte; there is no limit on the whole, which the router's load timeout bounds."""


class Web:
    """Files below one URL."""

    def __init__(self, url: httpx.URL, headers: list[tuple[str, str]], tls: ssl.SSLContext | bool) -> None:
        self._url = url
        self._headers = [("Accept-Encoding", "identity"), *headers]
        self._tls = tls

    async def fetch(self, path: str, target: Path) -> None:
        """Download `path` below the URL, whose query is kept; a redirect is followed."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._fetch(self._at(path), target)
                break
            except Damaged as error:
                if attempt == ATTEMPTS:
                    raise
                log.warning("%s; trying again", error)

    async def size(self, path: str) -> int | None:
        """The announced length; None if the server announces none."""
        url = self._at(path)
        try:
            async with self._client() as client:
                answer = await client.head(url)
        except httpx.HTTPError as error:
            raise _unreachable(url, error) from None
        _check(answer, url)
        length = answer.headers.get("Content-Length")
        return int(length) if length and length.isdigit() else None

    async def _fetch(self, url: httpx.URL, target: Path) -> None:
        try:
            async with self._client() as client, client.stream("GET", url) as answer:
                _check(answer, url)
                await self._save(answer, url, target)
        except httpx.RemoteProtocolError as error:
            raise Damaged(f"the download of {_shown(url)} broke off before its end: {error}") from None
        except httpx.TooManyRedirects:
            raise NotConfigured(f"{_shown(url)} redirects in a circle") from None
        except (httpx.ReadError, httpx.DecodingError) as error:
            raise Damaged(f"the download of {_shown(url)} broke off: {str(error) or type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise _unreachable(url, error) from None

    async def _save(self, answer: httpx.Response, url: httpx.URL, target: Path) -> None:
        announced = answer.headers.get("Content-Length", "")
        progress = Progress(_shown(url), int(announced) if announced.isdigit() else 0)
        with target.open("wb", buffering=0) as file:
            async for chunk in answer.aiter_bytes(CHUNK):
                await to_end(asyncio.to_thread(_write, file.fileno(), chunk))
                progress.add(len(chunk))
        if announced.isdigit() and answer.num_bytes_downloaded != int(announced):
            raise Damaged(f"{_shown(url)} ended after {answer.num_bytes_downloaded} of {announced} bytes")

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(headers=self._headers, verify=self._tls, timeout=TIMEOUT, follow_redirects=True)

    def _at(self, path: str) -> httpx.URL:
        below = clamp(path)
        return self._url.copy_with(path=f"{self._url.path.rstrip('/')}/{below}") if below else self._url


def web(parameters: Parameters) -> Web:
    """The source of an `http` entry: `url`, `headers` (values are strings or lists of strings), `certificate`,
    `client_certificate` with `client_key` (PEM texts).

    Raises:
        InvalidRequest: a field has the wrong form.
        NotConfigured: a certificate cannot be read.
    """
    (text,) = required(parameters, "url")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"storage of type 'http': url {text!r}: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidRequest(f"storage of type 'http': url {text!r} must begin with http:// or https:// and name a host")
    return Web(url, _headers(parameters.get("headers")), _tls(parameters))


def _headers(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise InvalidRequest("storage of type 'http': `headers` must be an object")
    pairs = [(name, item) for name, items in value.items() for item in (items if isinstance(items, list) else [items])]
    for name, item in pairs:
        if not isinstance(item, str) or not item.isprintable():
            raise InvalidRequest(f"storage of type 'http': header {name!r} must be a string or a list of strings, each of one line")
    return pairs


def _tls(parameters: Parameters) -> ssl.SSLContext | bool:
    authority, certificate, key = (optional(parameters, name) for name in ("certificate", "client_certificate", "client_key"))
    if bool(certificate) != bool(key):
        raise InvalidRequest("storage of type 'http': `client_certificate` and `client_key` belong together")
    if not (authority or certificate):
        return True
    context = ssl.create_default_context()
    try:
        if authority:
            context.load_verify_locations(cadata=authority)
        if certificate and key:
            _load_chain(context, certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise NotConfigured(f"storage of type 'http': a certificate or key cannot be read: {error}") from None
    return context


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL takes a client certificate from files only; these are readable by this user alone and live for the reading."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("certificate", certificate), ("key", key)):
            (Path(folder) / name).touch(mode=0o600)
            (Path(folder) / name).write_text(text, encoding="ascii")
        context.load_cert_chain(Path(folder) / "certificate", Path(folder) / "key")


def _check(answer: httpx.Response, url: httpx.URL) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise Missing(f"{_shown(url)} does not exist (HTTP status {status})")
    if status in (401, 403, 407):
        raise Denied(f"{_shown(url)} refuses access (HTTP status {status}); check the headers and certificates of its storage-config entry")
    if status == 429 or status >= 500:
        raise Unreachable(f"{_shown(url)} answers with HTTP status {status}")
    if status != 200:
        raise AdapterError(f"{_shown(url)} answers with HTTP status {status} instead of a file")


def _unreachable(url: httpx.URL, error: httpx.HTTPError) -> Unreachable:
    return Unreachable(f"{_shown(url)} cannot be reached: {str(error) or type(error).__name__}")


def _shown(url: httpx.URL) -> str:
    """The URL for messages: without its query and user, where secrets may stand."""
    return str(url.copy_with(query=None, username=None, password=None))


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
