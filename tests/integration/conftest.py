"""What tests of several folders share: the object stores, all started with the first that is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.integration.storage import servers
from tests.integration.storage.servers import Bucket


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Bucket]]:
    """`s3`, `gcs` and `azure`; they live on, so a test puts what others must not see under a name of its own."""
    with servers.every_store(tmp_path_factory.mktemp("stores")) as stores:
        yield stores
