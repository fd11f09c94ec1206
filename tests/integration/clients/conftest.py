"""A mesh with the walkthrough's model for all clients, and the environment that they run in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.models.stack import MODELS, Stack, service
from tests.support import environments

MODEL = "sklearn-mnist"


@pytest.fixture(scope="session")
def clients() -> Path:
    """The interpreter of the clients' environment."""
    return environments.made("clients") / "bin" / "python"


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("clients")) as stack:
        shutil.copy(MODELS / "mnist-svm.joblib", stack.claim)
        stack.apply(service(MODEL, "mnist-svm.joblib"))
        # Loaded, not only known: a client that asks whether it is ready does not have it loaded.
        assert stack.digit(MODEL) == 8
        yield stack
