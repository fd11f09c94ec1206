"""The environment of an adapter: ModelMesh's names and defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_adapters.settings import Settings, SettingsError

REQUIRED = {"CONTAINER_MEM_REQ_BYTES": str(6 << 30)}


def test_defaults() -> None:
    settings = Settings.load(REQUIRED)
    assert settings.port == 8085
    assert settings.runtime_port == 8001
    assert settings.capacity == (6 << 30) - (256 << 20)
    assert settings.loading_concurrency == 1
    assert settings.load_timeout == 30_000
    assert settings.default_size == 1_000_000
    assert settings.size_multiplier == 1.25
    assert settings.runtime_version == "v1"
    assert settings.model_concurrency == 0
    assert settings.root == Path("/models")
    assert settings.storage_config == Path("/storage-config")
    assert settings.pvc_mounts == Path("/pvc_mounts")
    assert settings.embedded_puller
    assert settings.socket == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADAPTER_PORT", "x"),
        ("ADAPTER_PORT", "70000"),
        ("LOADING_CONCURRENCY", ""),
        ("LOADING_CONCURRENCY", "0"),
        ("MODELSIZE_MULTIPLIER", "0"),
        ("MODELSIZE_MULTIPLIER", "-1"),
        ("USE_EMBEDDED_PULLER", "perhaps"),
        ("LOADTIME_TIMEOUT", "90s"),
        ("DEFAULT_MODELSIZE", "0"),
        ("CONTAINER_MEM_REQ_BYTES", "-1"),
        ("CONTAINER_MEM_REQ_BYTES", "1Gi"),
        ("ROOT_MODEL_DIR", ""),
        ("ROOT_MODEL_DIR", "models"),
        ("ROOT_MODEL_DIR", "/"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.load({**REQUIRED, name: value})


def test_the_memory_request_is_required() -> None:
    with pytest.raises(SettingsError, match="CONTAINER_MEM_REQ_BYTES is not set"):
        Settings.load({})


def test_a_buffer_larger_than_the_request_leaves_nothing() -> None:
    assert Settings.load({"CONTAINER_MEM_REQ_BYTES": "100", "MEM_BUFFER_BYTES": "200"}).capacity == -100
