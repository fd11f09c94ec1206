"""The same stories on SeaweedFS (S3), fake-gcs-server and Azurite."""

from __future__ import annotations

import os
import uuid

import grpc
import pytest

from runtime_adapters.errors import AdapterError, Missing
from runtime_adapters.storage import transfer
from runtime_adapters.storage.keys import ModelKey
from runtime_adapters.storage.puller import CONTEXT
from tests.integration.storage import servers
from tests.integration.storage.conftest import Disk
from tests.integration.storage.servers import Bucket


@pytest.fixture
def folder() -> str:
    """A name that no other test uses: the stores live on."""
    return uuid.uuid4().hex


async def refused(disk: Disk, path: str, **more: str) -> AdapterError:
    """Why a pull was refused; nothing may lie on the disk after that."""
    with pytest.raises(AdapterError) as failure:
        await disk.pull(path, **more)
    assert failure.value.message.startswith(f"{CONTEXT}: ")
    assert disk.empty()
    return failure.value


async def test_a_single_object_keeps_its_name(disk: Disk, bucket: Bucket, folder: str) -> None:
    bucket.put({f"{folder}/digits.joblib": b"a model"})
    disk.configure(key=bucket.entry)
    pulled = await disk.pull(f"{folder}/digits.joblib")
    assert pulled.model == disk.root / "model" / "digits.joblib"
    assert disk.files() == {"model/digits.joblib": b"a model"}


async def test_a_directory_comes_whole_and_alone(disk: Disk, bucket: Bucket, folder: str) -> None:
    inside = {"a": b"1", "deep/er/b": b"22", "empty": b"", "with space é#%~*.txt": b"333"}
    bucket.put({f"{folder}/model/{name}": content for name, content in inside.items()})
    bucket.put({f"{folder}/model_with_more/x": b"not ours", f"{folder}/model.txt": b"not ours either"})
    disk.configure(key=bucket.entry)
    for path in (f"{folder}/model", f"{folder}/model/", f"/{folder}/./model"):
        await disk.pull(path)
        assert disk.files() == {f"model/model/{name}": content for name, content in inside.items()}


async def test_more_objects_than_a_page(disk: Disk, bucket: Bucket, folder: str) -> None:
    objects = {f"{folder}/{index:04}": str(index).encode() for index in range(1203)}
    bucket.put(objects)
    disk.configure(key=bucket.entry)
    await disk.pull(folder)
    assert disk.files() == {f"model/{name}": content for name, content in objects.items()}


async def test_a_large_object_comes_in_parts_and_whole(disk: Disk, bucket: Bucket, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PART", 1 << 20)
    content = os.urandom((5 << 20) + 17)
    bucket.put({f"{folder}/large": content})
    disk.configure(key=bucket.entry)
    await disk.pull(f"{folder}/large")
    assert disk.files() == {"model/large": content}


async def test_a_schema_comes_beside_its_model(disk: Disk, bucket: Bucket, folder: str) -> None:
    bucket.put({f"{folder}/m/model.json": b"m", f"{folder}/s/model.json": b"s"})
    disk.configure(key=bucket.entry)
    pulled = await disk.pull(f"{folder}/m/model.json", schema=f"{folder}/s/model.json")
    assert pulled.schema == disk.root / "model" / "_schema.json"
    assert disk.files() == {"model/model.json": b"m", "model/_schema.json": b"s"}


async def test_sizes_are_told_without_a_download(disk: Disk, bucket: Bucket, folder: str) -> None:
    bucket.put({f"{folder}/a": b"1" * 1000, f"{folder}/b/c": b"2" * 500})
    disk.configure(key=bucket.entry)
    key = ModelKey(storage_key="key")
    assert await disk.puller.size(folder, key) == 1500
    assert await disk.puller.size(f"{folder}/a", key) == 1000
    with pytest.raises(Missing):
        await disk.puller.size(f"{folder}/absent", key)
    assert disk.empty()


async def test_a_path_that_is_not_there(disk: Disk, bucket: Bucket, folder: str) -> None:
    disk.configure(key=bucket.entry)
    error = await refused(disk, f"{folder}/absent")
    assert error.status == grpc.StatusCode.NOT_FOUND
    for named in (f"{folder}/absent", "'models'", "storage key 'key'"):
        assert named in error.message


async def test_a_schema_that_is_not_there_takes_the_model_with_it(disk: Disk, bucket: Bucket, folder: str) -> None:
    bucket.put({f"{folder}/model": b"m"})
    disk.configure(key=bucket.entry)
    error = await refused(disk, f"{folder}/model", schema="absent.json")
    assert "absent.json" in error.message


async def test_a_bucket_that_is_not_there(disk: Disk, bucket: Bucket) -> None:
    name = "container" if bucket.entry["type"] == "azure" else "bucket"
    disk.configure(key={**bucket.entry, name: "absent-bucket"})
    error = await refused(disk, "some/model")
    assert "absent-bucket" in error.message
    # fake-gcs-server answers 500 where Google answers 404.
    expected = grpc.StatusCode.UNAVAILABLE if bucket.entry["type"] == "gcs" else grpc.StatusCode.NOT_FOUND
    assert error.status == expected


async def test_a_wrong_secret(disk: Disk, s3: Bucket, folder: str) -> None:
    s3.put({f"{folder}/model": b"m"})
    disk.configure(secret={**s3.entry, "secret_access_key": "wrong"}, identity={**s3.entry, "access_key_id": "nobody"})
    for key, cause in (("secret", "SignatureDoesNotMatch"), ("identity", "InvalidAccessKeyId")):
        error = await refused(disk, f"{folder}/model", key=key)
        assert error.status == grpc.StatusCode.PERMISSION_DENIED
        assert cause in error.message
        assert f"storage key '{key}'" in error.message
        assert "wrong" not in error.message, "secrets stay out of messages"


async def test_a_wrong_account_key(disk: Disk, azure: Bucket, folder: str) -> None:
    azure.put({f"{folder}/model": b"m"})
    wrong = azure.entry["connection_string"].replace(servers.ACCOUNT_KEY, "AAAA" + servers.ACCOUNT_KEY[4:])
    disk.configure(key={**azure.entry, "connection_string": wrong})
    error = await refused(disk, f"{folder}/model")
    assert error.status == grpc.StatusCode.PERMISSION_DENIED


async def test_a_changed_secret_takes_effect_at_the_next_load(disk: Disk, s3: Bucket, folder: str) -> None:
    s3.put({f"{folder}/model": b"m"})
    disk.configure(key={**s3.entry, "secret_access_key": "wrong"})
    await refused(disk, f"{folder}/model")
    disk.configure(key=s3.entry)
    await disk.pull(f"{folder}/model")


async def test_a_store_that_is_not_there(disk: Disk, bucket: Bucket) -> None:
    disk.configure(key={name: _unused(value) for name, value in bucket.entry.items()})
    error = await refused(disk, "some/model")
    assert error.status == grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:9" in error.message


def _unused(value: str) -> str:
    """The same address with a port on which nobody listens."""
    head, colon, rest = value.partition("http://127.0.0.1:")
    return f"{head}{colon}9{rest.lstrip('0123456789')}" if colon else value


async def test_a_bucket_may_be_named_by_the_request(disk: Disk, bucket: Bucket, folder: str) -> None:
    bucket.put({f"{folder}/model": b"m"})
    name = "container" if bucket.entry["type"] == "azure" else "bucket"
    disk.configure(key={**bucket.entry, name: "absent-bucket"})
    await disk.pull(f"{folder}/model", **{name: "models"})
    assert disk.files() == {"model/model": b"m"}
