"""The models of the configuration file, each with the version that is served, and what became of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvino as ov

log = logging.getLogger(__name__)

FORMATS = (".xml", ".onnx", ".pdmodel", ".tflite", ".pb")
"""Files that the runtime reads a model from."""
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
"""On a CPU that can, the runtime computes in bfloat16 unless told otherwise; answers then differ in the third digit."""


class BadConfig(Exception):
    """The configuration file is not there, or is no list of models; nothing was changed."""


class NotFound(Exception):
    """There is no such model, or no such version."""


class Served:
    """One version of one model. It serves while `model` is there; what it holds is freed when the last call on it ends."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.state = "START"
        self.code = "OK"
        self.model: Any = None
        self._calls = 0
        self._idle = threading.Condition()

    def load(self, folder: Path) -> None:
        """Read and compile what lies in `folder`; a failure shows in `code`."""
        self.state = "LOADING"
        try:
            file = next((file for file in sorted(folder.iterdir()) if file.suffix in FORMATS), None)
            if file is None:
                raise FileNotFoundError(f"there is no file of a known format ({', '.join(FORMATS)}) in {folder}")
            # A runtime of its own: nothing of the model stays behind in a shared one.
            self.model = ov.Core().compile_model(str(file), "CPU", PRECISION)
        except Exception as error:
            log.error("load of %s failed: %s", folder, error)
            self.code = "UNKNOWN"
            return
        self.state = "AVAILABLE"

    def unload(self) -> None:
        """Take no more calls, wait for those under way, and free the model."""
        with self._idle:
            self.state = "UNLOADING"
            self._idle.wait_for(lambda: not self._calls)
            self.model = None
        self.state = "END"

    @contextmanager
    def in_use(self) -> Iterator[Any]:
        """The compiled model, which stays as long as the context lasts. NotFound if it does not serve."""
        with self._idle:
            if self.state != "AVAILABLE":
                raise NotFound("Model with requested version is not found")
            self._calls += 1
        try:
            yield self.model
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    def status(self) -> dict[str, Any]:
        """As the REST interface shows it."""
        return {"version": str(self.version), "state": self.state, "status": {"error_code": self.code, "error_message": self.code}}


class Repository:
    """What is served. Reloads are one at a time; calls and statuses go on meanwhile."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._folders: dict[str, Path] = {}
        self._models: dict[str, Served | None] = {}
        self._reloading = threading.Lock()

    def check(self) -> None:
        """BadConfig if the file cannot be read."""
        self._read()

    def reload(self) -> tuple[bool, list[str]]:
        """Do as the file says: whether anything changed, and the models that could not be loaded. BadConfig if it cannot be read."""
        with self._reloading:
            wanted = self._read()
            changed = False
            for name in [name for name in self._folders if name not in wanted]:
                changed = True
                self._remove(name)
                log.info("unloaded %s", name)
            for name, folder in wanted.items():
                changed |= self._update(name, folder)
            return changed, [name for name in wanted if not self._serves(name)]

    def _update(self, name: str, folder: Path) -> bool:
        """Bring one model to its largest version; whether that was to do. What failed before is tried again."""
        version = _largest_version(folder)
        now = self._models.get(name)
        if self._folders.get(name) == folder and self._serves(name) and now and now.version == version:
            return False
        if name in self._folders:
            self._remove(name)
        self._folders[name] = folder
        served = self._models[name] = Served(version) if version is not None else None
        if served:
            served.load(folder / str(version))
            log.info("%s %s, version %d: %s", "loaded" if served.code == "OK" else "failed to load", name, served.version, served.state)
        return True

    def _remove(self, name: str) -> None:
        del self._folders[name]
        if served := self._models[name]:
            served.unload()
        else:
            del self._models[name]

    def _serves(self, name: str) -> bool:
        served = self._models.get(name)
        return served is not None and served.state == "AVAILABLE"

    def find(self, name: str, version: str = "") -> Served:
        """The version to call; "" is any. NotFound if there is none that serves."""
        served = self._models.get(name)
        if served is None or (served.state == "END" and name not in self._folders):
            raise NotFound("Model with requested name is not found")
        if served.state != "AVAILABLE" or version not in ("", "0", str(served.version)):
            raise NotFound("Model with requested version is not found")
        return served

    def statuses(self) -> dict[str, Any]:
        """Every model that was ever listed, with the state of its version."""
        return {name: {"model_version_status": [served.status()] if served else []} for name, served in dict(self._models).items()}

    def _read(self) -> Mapping[str, Path]:
        try:
            entries = json.loads(self._config.read_bytes())["model_config_list"]
            return {entry["config"]["name"]: Path(entry["config"]["base_path"]) for entry in entries}
        except OSError as error:
            raise BadConfig(f"Config file not found or cannot open. ({error})") from None
        except (ValueError, TypeError, LookupError) as error:
            raise BadConfig(f"Reloading config file failed. Check server logs for more info. ({type(error).__name__}: {error})") from None


def _largest_version(folder: Path) -> int | None:
    """By the folder's numeric subfolders, as the default version policy has it."""
    try:
        return max(
            (int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and int(entry.name) > 0 and entry.is_dir()),
            default=None,
        )
    except OSError:
        return None
