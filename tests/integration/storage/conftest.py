"""Each object store in turn, and a puller over an empty disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runtime_adapters.storage.keys import ModelKey
from runtime_adapters.storage.puller import Pulled, Puller
from tests.integration.storage.servers import Bucket, WebServer


@pytest.fixture
def s3(stores: Mapping[str, Bucket]) -> Bucket:
    return stores["s3"]


@pytest.fixture
def azure(stores: Mapping[str, Bucket]) -> Bucket:
    return stores["azure"]


@pytest.fixture(params=["s3", "gcs", "azure"])
def bucket(request: pytest.FixtureRequest, stores: Mapping[str, Bucket]) -> Bucket:
    """Each kind of object store in turn."""
    return stores[request.param]


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


class Disk(NamedTuple):
    """A model folder, a storage-config and claims, and the puller over them."""

    root: Path
    config: Path
    claims: Path

    @property
    def puller(self) -> Puller:
        return Puller(self.root, self.config, self.claims)

    def configure(self, **entries: dict[str, Any]) -> None:
        for key, entry in entries.items():
            (self.config / key).write_text(json.dumps(entry))

    async def pull(self, path: str, key: str = "key", model: str = "model", schema: str | None = None, **params: str) -> Pulled:
        return await self.puller.pull(model, path, ModelKey(storage_key=key, storage_params=params, schema_path=schema))

    def files(self) -> dict[str, bytes]:
        """Everything below the model folder: contents by path."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def empty(self) -> bool:
        """Whether not even a folder lies there."""
        return not list(self.root.iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path / "models", tmp_path / "storage-config", tmp_path / "claims")
    for folder in disk:
        folder.mkdir()
    return disk
