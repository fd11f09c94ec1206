"""Runs the stories of one script, each a public function of it, and prints as JSON how each ended.

Used by the scripts of this folder, which run in the environment of the clients: nothing of the project can be imported there.
"""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Failure:
    """What something failed with, once it did."""

    error: Any = None


@contextmanager
def failing(kind: type[BaseException]) -> Iterator[Failure]:
    """What is inside must raise this."""
    failure = Failure()
    try:
        yield failure
    except kind as error:
        failure.error = error
        return
    raise AssertionError(f"no {kind.__name__}")


def run(script: Mapping[str, Any]) -> None:
    """Calls every story of a script's globals with where the mesh is, which is the first argument of the process, as JSON.

    Prints `{story: null, or the traceback of what went wrong}` as the last line.
    """
    where = json.loads(sys.argv[1])
    results: dict[str, str | None] = {}
    for name, value in script.items():
        if inspect.isfunction(value) and value.__module__ == script["__name__"] and not name.startswith("_"):
            results[name] = _told(value, where)
    print(json.dumps(results))


def _told(story: Callable[..., None], where: dict[str, Any]) -> str | None:
    try:
        story(where)
    except BaseException:
        return traceback.format_exc()
    return None
