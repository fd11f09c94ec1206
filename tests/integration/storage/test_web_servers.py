"""Models behind a URL: what is not exactly the file that was asked for never gets its name."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest

from runtime_adapters.errors import AdapterError
from runtime_adapters.storage import transfer
from runtime_adapters.storage.keys import ModelKey
from tests.integration.storage import certificates
from tests.integration.storage.conftest import Disk
from tests.integration.storage.servers import WebServer
from tests.support.waiting import until_async


async def refused(disk: Disk, path: str, **params: str) -> AdapterError:
    with pytest.raises(AdapterError) as failure:
        await disk.pull(path, **params)
    assert disk.empty()
    return failure.value


async def test_a_file_is_fetched_below_the_url_with_its_query(disk: Disk, web: WebServer) -> None:
    web.files["/base/some/digits.joblib"] = b"a model"
    disk.configure(key={"type": "http", "url": f"{web.url}/base/?token=secret"})
    await disk.pull("some/digits.joblib")
    assert disk.files() == {"model/digits.joblib": b"a model"}
    assert [path for _, path, _ in web.requests] == ["/base/some/digits.joblib?token=secret"]


async def test_the_url_itself_may_be_the_file(disk: Disk, web: WebServer) -> None:
    web.files["/digits.joblib"] = b"a model"
    disk.configure(key={"type": "https", "url": f"{web.url}/digits.joblib"})
    pulled = await disk.pull("")
    assert pulled.model.name == "_model"
    assert disk.files() == {"model/_model": b"a model"}


async def test_headers_are_sent_also_those_set_by_the_request(disk: Disk, web: WebServer) -> None:
    web.files["/m"] = b"m"
    disk.configure(key={"type": "http", "url": web.url, "headers": {"X-One": "1", "X-Many": ["a", "b"]}})
    await disk.pull("m", **{"headers.Authorization": "Bearer xyz"})
    ((_, _, headers),) = web.requests
    assert headers["Authorization"] == "Bearer xyz"
    assert headers["X-One"] == "1"


async def test_a_redirect_is_followed(disk: Disk, web: WebServer) -> None:
    web.files["/m"] = b"moved here"
    disk.configure(key={"type": "http", "url": web.url})
    await disk.pull("redirect/m")
    assert disk.files() == {"model/m": b"moved here"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, grpc.StatusCode.NOT_FOUND),
        (410, grpc.StatusCode.NOT_FOUND),
        (401, grpc.StatusCode.PERMISSION_DENIED),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (429, grpc.StatusCode.UNAVAILABLE),
        (503, grpc.StatusCode.UNAVAILABLE),
        (206, grpc.StatusCode.INTERNAL),
        (418, grpc.StatusCode.INTERNAL),
    ],
)
async def test_another_status_is_not_a_model(disk: Disk, web: WebServer, status: int, code: grpc.StatusCode) -> None:
    disk.configure(key={"type": "http", "url": f"{web.url}?token=secret"})
    error = await refused(disk, f"status/{status}/m")
    assert error.status == code
    assert f"{web.url}/status/{status}/m" in error.message
    assert str(status) in error.message
    assert "secret" not in error.message


async def test_a_redirect_in_a_circle_ends(disk: Disk, web: WebServer) -> None:
    disk.configure(key={"type": "http", "url": web.url})
    web.files["/x"] = b""
    error = await refused(disk, "redirect/" * 30 + "m")
    assert "redirects in a circle" in error.message


async def test_a_truncated_download_is_tried_again_and_then_refused(disk: Disk, web: WebServer) -> None:
    disk.configure(key={"type": "http", "url": web.url})
    error = await refused(disk, "short/5000/m")
    assert error.status == grpc.StatusCode.DATA_LOSS
    assert "broke off" in error.message
    assert len(web.requests) == transfer.ATTEMPTS


async def test_a_server_that_is_not_there(disk: Disk) -> None:
    disk.configure(key={"type": "http", "url": "http://127.0.0.1:9"})
    error = await refused(disk, "m")
    assert error.status == grpc.StatusCode.UNAVAILABLE
    assert "http://127.0.0.1:9/m cannot be reached" in error.message


def as_bucket(web: WebServer, name: str) -> dict[str, str]:
    """The same server, spoken to as if it were S3; the bucket is the first part of the path."""
    keys = {"access_key_id": "any", "secret_access_key": "any"}
    return {"type": "s3", "endpoint_url": web.url, "bucket": name, **keys}


async def test_a_truncated_object_is_tried_again_and_then_refused(disk: Disk, web: WebServer) -> None:
    disk.configure(key=as_bucket(web, "short"))
    error = await refused(disk, "5000/m")
    assert error.status == grpc.StatusCode.DATA_LOSS
    assert "'5000/m'" in error.message
    assert "s3 bucket 'short'" in error.message
    assert [method for method, _, _ in web.requests].count("GET") == transfer.ATTEMPTS


@pytest.mark.parametrize("storage", ["http", "s3"])
async def test_a_cancelled_download_stops_and_leaves_nothing(disk: Disk, web: WebServer, storage: str) -> None:
    disk.configure(http={"type": "http", "url": f"{web.url}/slow"}, s3=as_bucket(web, "slow"))
    pull = asyncio.create_task(disk.pull("m", key=storage))

    async def began() -> bool:
        return bool(disk.files())

    await until_async(began, "the file is begun")
    assert not (disk.root / "model").exists(), "under another name until it is whole"
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert disk.empty()


async def test_the_announced_length_is_the_size(disk: Disk, web: WebServer) -> None:
    web.files["/m"] = b"12345"
    disk.configure(key={"type": "http", "url": web.url})
    assert await disk.puller.size("m", ModelKey(storage_key="key")) == 5
    assert [method for method, _, _ in web.requests] == ["HEAD"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "needs 'url'"),
        ({"url": "ftp://host/x"}, "must begin with http:// or https://"),
        ({"url": 5}, "'url' must be a string, not a number"),
        ({"url": "http://host", "headers": "Authorization: x"}, "`headers` must be an object"),
        ({"url": "http://host", "headers": {"A": 1}}, "header 'A' must be a string or a list of strings"),
        ({"url": "http://host", "headers": {"A": "x\r\nB: y"}}, "each of one line"),
        ({"url": "https://host", "client_certificate": "x"}, "belong together"),
        ({"url": "https://host", "certificate": "not PEM"}, "cannot be read"),
    ],
)
async def test_an_entry_that_makes_no_sense(disk: Disk, entry: dict[str, object], said: str) -> None:
    disk.configure(key={"type": "http", **entry})
    error = await refused(disk, "m")
    assert said in error.message
    assert error.status in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


class TestOverTLS:
    """A server with a certificate of a private authority, which wants one from the client too."""

    @pytest.fixture
    def papers(self, tmp_path: Path) -> certificates.Papers:
        (tmp_path / "papers").mkdir()
        return certificates.make(tmp_path / "papers")

    @pytest.fixture
    def secure(self, web: WebServer, papers: certificates.Papers) -> WebServer:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=papers.authority)
        context.load_cert_chain(papers.server, papers.server_key)
        context.verify_mode = ssl.CERT_REQUIRED
        web.secure(context)
        web.files["/m"] = b"m"
        return web

    async def test_both_sides_show_their_papers(self, disk: Disk, secure: WebServer, papers: certificates.Papers) -> None:
        client = {"client_certificate": papers.client.read_text(), "client_key": papers.client_key.read_text()}
        disk.configure(key={"type": "http", "url": secure.url, "certificate": papers.authority.read_text(), **client})
        await disk.pull("m")
        assert disk.files() == {"model/m": b"m"}

    async def test_an_object_store_of_that_authority(self, disk: Disk, web: WebServer, papers: certificates.Papers) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(papers.server, papers.server_key)
        web.secure(context)
        web.files["/shelf/m"] = b"m"
        disk.configure(key=as_bucket(web, "shelf"))
        assert (await refused(disk, "m")).status == grpc.StatusCode.UNAVAILABLE
        disk.configure(key={**as_bucket(web, "shelf"), "certificate": papers.authority.read_text()})
        await disk.pull("m")
        assert disk.files() == {"model/m": b"m"}

    async def test_an_unknown_authority_is_not_trusted(self, disk: Disk, secure: WebServer) -> None:
        disk.configure(key={"type": "http", "url": secure.url})
        error = await refused(disk, "m")
        assert error.status == grpc.StatusCode.UNAVAILABLE
        assert "certificate verify failed" in error.message
