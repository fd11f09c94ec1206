"""What the scripted runtime is told to do, what it holds, and what it saw."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import grpc

MIB = 1 << 20
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(eq=False)
class Refusal(Exception):
    """A status other than OK, for the caller of the runtime."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()


@dataclass
class Behaviour:
    """The script. Every field can be changed while the runtime runs, with the control command `behave`."""

    capacity: int = 1024 * MIB
    default_size: int = 50 * MIB
    load_timeout_ms: int = 90_000
    loading_concurrency: int = 6
    size_by: Literal["loadModel", "modelSize"] = "modelSize"
    predict_size: bool = False
    """Off: predictModelSize is not implemented. On: it answers the size that the path names."""
    max_concurrency: int = 0
    """Above 0: limitModelConcurrency, with this many calls at a time on each copy."""
    method_infos: dict[str, list[int]] = field(default_factory=dict)
    allow_any: bool = False
    not_found: Literal["grpc", "triton", "mlserver"] = "grpc"
    """In whose words a call for a model that is not here is answered."""
    unload_return_not_found: bool = False
    fail_unloads: int = 0
    """So many of the next unloads fail."""
    fail_loads: str = ""
    """Every load fails with this text; none does by that if it is empty."""
    health: bool = False
    """Whether grpc.health.v1 is served beside the management interface."""
    old_service: bool = False
    """The SPI is served under the name that it had before ModelMesh, and under no other."""
    starting_polls: int = 0
    """So many status calls are answered with STARTING first."""
    failing: bool = False

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str]) -> Behaviour:
        """From JSON, and from the variables that ModelMesh's own test runtime knows."""
        script = cls(**json.loads(text or "{}"))
        if infos := environment.get("RS_METHOD_INFOS"):
            script.method_infos = json.loads(infos)
        script.allow_any |= environment.get("RS_ALLOW_ANY") == "true"
        script.unload_return_not_found |= environment.get("UNLOAD_RETURN_NOT_FOUND") == "true"
        if environment.get("TRITON_NOT_FOUND_BEHAVIOUR") == "true":
            script.not_found = "triton"
        if environment.get("MLSERVER_NOT_FOUND_BEHAVIOUR") == "true":
            script.not_found = "mlserver"
        return script


@dataclass(frozen=True)
class Plan:
    """How the load of one model goes, read from its path.

    `FAIL_<text>` fails the first load of an id, `FAILALWAYS_<text>` every one, `HANG` never answers,
    `SIZE_<bytes>_<load ms>_<unload ms>` loads; anything else loads at once with the default size.
    """

    size: int
    load_ms: int = 0
    unload_ms: int = 0
    fails: Literal["", "once", "always"] = ""
    message: str = ""
    hangs: bool = False

    @classmethod
    def of(cls, path: str, default_size: int) -> Plan:
        kind, _, rest = path.partition("_")
        match kind:
            case "SIZE":
                size, load_ms, unload_ms = (int(part) for part in rest.split("_"))
                return cls(size, load_ms, unload_ms)
            case "FAIL":
                return cls(default_size, fails="once", message=rest)
            case "FAILALWAYS":
                return cls(default_size, fails="always", message=rest)
            case _:
                return cls(default_size, hangs=path == "HANG")


class Gates:
    """Points at which work waits until a test lets it go on.

    `load:<model>`, `unload:<model>`, `size:<model>`, `call:<model>`; `*` stands for any model.
    """

    def __init__(self) -> None:
        self._closed: dict[str, asyncio.Event] = {}

    def hold(self, name: str) -> None:
        """Whoever passes from now on waits."""
        self._closed.setdefault(name, asyncio.Event())

    def release(self, name: str) -> None:
        """Lets go who waits, and whoever comes later."""
        if gate := self._closed.pop(name, None):
            gate.set()

    def release_all(self) -> None:
        for name in list(self._closed):
            self.release(name)

    async def passing(self, kind: str, model: str) -> None:
        """Waits at the gates of this model and of any model."""
        for name in (f"{kind}:{model}", f"{kind}:*"):
            if gate := self._closed.get(name):
                await gate.wait()


@dataclass
class Models:
    """What is in memory, in bytes."""

    loading: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)
    unloading: dict[str, int] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    failed_once: set[str] = field(default_factory=set)
    plans: dict[str, Plan] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(sum(part.values()) for part in (self.loading, self.loaded, self.unloading))

    def purge(self) -> None:
        """Forgets every loaded model, as a restart would."""
        self.loaded.clear()


class Journal:
    """Every call that the runtime saw, as it began and as it ended, one JSON object a line.

    Fields: `n` (order), `t` (a clock that all processes share), `pid`, `call`, `at` (`start` or `end`), `model`, `code` (at the end),
    `held` (bytes in memory: loading, loaded and unloading), `loading` (loads running), `running` (calls running on this model), and
    whatever the call adds.
    """

    def __init__(self, models: Models, path: Path | None) -> None:
        self._models = models
        self._file = path.open("a", encoding="utf-8") if path else None
        self.lines: list[dict[str, Any]] = []

    def note(self, call: str, at: str, model: str = "", **more: Any) -> None:
        models = self._models
        line = {"n": len(self.lines), "t": time.monotonic_ns(), "pid": os.getpid(), "call": call, "at": at, "model": model}
        line |= {"held": models.held, "loading": len(models.loading), "running": models.running[model], **more}
        self.lines.append(line)
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    @asynccontextmanager
    async def call(self, name: str, model: str, context: Context, **more: Any) -> AsyncIterator[None]:
        """Notes the end too, with the status of the call, before its caller learns it."""
        self.note(name, "start", model, **more)
        try:
            yield
        except Refusal as refusal:
            self.note(name, "end", model, code=refusal.code.name)
            await context.abort(refusal.code, refusal.details, refusal.trailers)
        except asyncio.CancelledError:
            self.note(name, "end", model, code="CANCELLED")
            raise
        except BaseException:
            self.note(name, "end", model, code="UNKNOWN")
            raise
        else:
            self.note(name, "end", model, code="OK")


@dataclass
class State:
    """All that the services of one runtime share."""

    behaviour: Behaviour
    journal_path: Path | None = None
    models: Models = field(default_factory=Models)
    gates: Gates = field(default_factory=Gates)
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(self.models, self.journal_path)
