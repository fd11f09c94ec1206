"""The file that tells OpenVINO Model Server which models to serve, and from where."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class ConfigFile:
    """`{"model_config_list": [{"config": {"name", "base_path"}}, …]}`, always whole. Every method blocks, and raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def restore(self) -> dict[str, str]:
        """The models that an earlier life of the adapter listed, name → folder; the file is made if there is none.

        A file that cannot be read as such a list is kept beside a new and empty one: the server could not have read it either.
        """
        try:
            return _models(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            damaged = self.path.with_name(f"{self.path.name}.damaged")
            self.path.replace(damaged)
            log.error("%s is no list of models (%s); it is kept as %s", self.path, error, damaged.name)
        self.write({})
        return {}

    def write(self, models: Mapping[str, str]) -> None:
        """List these models and no other. A crash in the middle leaves the list as it was."""
        entries = [{"config": {"name": name, "base_path": folder}} for name, folder in models.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}~")
        partial.write_text(json.dumps({"model_config_list": entries}, indent=1), encoding="utf-8")
        # The server runs as another user in a container of its own.
        partial.chmod(0o644)
        partial.replace(self.path)


def _models(document: Any) -> dict[str, str]:
    found = {}
    for entry in document["model_config_list"]:
        name, folder = entry["config"]["name"], entry["config"]["base_path"]
        if not isinstance(name, str) or not isinstance(folder, str):
            raise TypeError(f"a model's name and base_path must be strings, not {name!r} and {folder!r}")
        found[name] = folder
    return found
