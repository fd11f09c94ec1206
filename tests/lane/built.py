"""The compiled lane of this tree."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ExtensionFileLoader
from types import ModuleType

from tests.support.lane import LIBRARY, built


def load() -> ModuleType | None:
    """The module; None if nobody compiled it."""
    if "mesh_lane" in sys.modules:
        return sys.modules["mesh_lane"]
    if not built():
        return None
    loader = ExtensionFileLoader("mesh_lane", str(LIBRARY))
    spec = importlib.util.spec_from_loader("mesh_lane", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules["mesh_lane"] = module
    return module
