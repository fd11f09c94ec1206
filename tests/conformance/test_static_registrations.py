"""Models that the settings of a router name are registered when it starts, and loaded before it is ready if they ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_start import failed_start
from tests.support.client import AliasStatus, Status, answer
from tests.support.mesh import REGISTRIES, RouterProcess, RuntimeProcess, a_mesh

INFO = {"type": "example", "path": "", "key": ""}


def static(*entries: dict[str, Any]) -> dict[str, str]:
    return {"MM_AUTO_REGISTER_MODELS": json.dumps(entries)}


def entry(model: str, **more: Any) -> dict[str, Any]:
    return {"modelId": model, "modelInfo": INFO, **more}


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_they_are_there_when_the_router_is_ready(tmp_path: Path, store: dict[str, str]) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([entry("of-file")]))
    listed = static(
        entry("lazy"),
        entry("eager", ensureLoaded=True, unknownField=1),
        entry("target", vModelId="alias", ensureLoaded=True),
        entry("kept", vModelId="keeper", retainAfterTransition=True),
    )
    with a_mesh(tmp_path, environment={**listed, **store, "MM_AUTO_REGISTER_MODELS_PATH": str(file)}) as mesh:
        status = {model: mesh.client.status(model).status for model in ("lazy", "of-file", "eager", "target", "kept")}
        loaded, known = Status.LOADED, Status.NOT_LOADED
        assert status == {"lazy": known, "of-file": known, "eager": loaded, "target": loaded, "kept": known}
        assert mesh.runtime.loads() == 2
        alias = mesh.client.alias("alias")
        assert (alias.status, alias.activeModelId) == (AliasStatus.DEFINED, "target")
        assert mesh.client.said("lazy") == answer("lazy")
        # What an alias leaves behind goes, unless its entry says that it stays.
        for name, before, after in (("alias", "target", "target-2"), ("keeper", "kept", "kept-2")):
            mesh.client.set_alias(name, after, path="", sync=True, loadNow=True)
            gone = mesh.client.status(before).status == Status.NOT_FOUND
            assert gone is (name == "alias")


def test_the_router_is_not_ready_before_they_are_loaded(tmp_path: Path) -> None:
    runtime = RuntimeProcess(tmp_path)
    try:
        with runtime.holding("load:slow"):
            # Ports are told of a router that is ready; this one is asked before.
            router = RouterProcess(tmp_path, {**runtime.environment, **static(entry("slow", ensureLoaded=True))}, ready=False)
            runtime.awaited("loadModel", "slow")
            assert not router.process.events("listening")
        router.await_ready()
        assert runtime.loads("slow") == 1
    finally:
        router.stop()
        runtime.stop()


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ([entry("fine"), {"modelInfo": INFO}], ["MM_AUTO_REGISTER_MODELS: entry 2", "modelId"]),
        ([entry("m", retainAfterTransition=True)], ["MM_AUTO_REGISTER_MODELS: entry 1 (m)", "retainAfterTransition", "vModelId"]),
        ([entry("m"), entry("m", modelInfo={**INFO, "path": "p"})], ["entry 2 (m)", "different attribute values"]),
        (
            [entry("m", ensureLoaded=True, modelInfo={**INFO, "path": "FAILALWAYS_no such file"}), entry("n")],
            ["MM_AUTO_REGISTER_MODELS: entry 1 (m): it did not load", "no such file"],
        ),
        (
            [entry("m", vModelId="a", ensureLoaded=True, modelInfo={**INFO, "path": "FAILALWAYS_no such file"})],
            ["MM_AUTO_REGISTER_MODELS: entry 1 (m): it did not load", "no such file"],
        ),
    ],
    ids=["malformed", "nothing to retain after", "contradiction", "does not load", "does not load behind an alias"],
)
def test_one_that_is_wrong_or_does_not_load_ends_the_start(
    lone: RuntimeProcess, tmp_path: Path, entries: list[dict[str, Any]], parts: list[str]
) -> None:
    output = failed_start(tmp_path, {**lone.environment, **static(*entries)})
    for part in parts:
        assert part in output
