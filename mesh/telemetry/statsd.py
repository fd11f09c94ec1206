"""What StatsD gets: each happening when it happens, figures every ten seconds, as datagrams to this machine (reference 10.2).

A line is `name#label=value,label=value:number|type`, of type `c`, `ms` or `g`. Sizes go as `ms` too, as they did from ModelMesh.
With `legacy=true` a line has no labels; method and code are part of its name.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from contextlib import suppress

from mesh.core.errors import Code
from mesh.telemetry import catalogue as known
from mesh.telemetry.catalogue import Family, Kind
from mesh.telemetry.options import StatsdOptions
from mesh.telemetry.series import Key
from mesh.telemetry.sinks import Figures, Readings

_log = logging.getLogger(__name__)

LARGEST = 1400
"""Bytes of a datagram (reference 10.2); with its headers it fits one Ethernet frame."""
HELD = 0.5
"""Seconds at most that a line waits for others to share its datagram."""
PERIOD = 10.0
"""Seconds between two rounds of figures: the flush interval that StatsD servers have unless told otherwise."""
HOST = "127.0.0.1"
_PREFIX = "model-mesh."
_TIMES = (known.API_REQUEST, known.INVOKE_MODEL)
"""Of calls that failed, these times are not told."""
_SPECIAL = re.compile(r"[^\w.\-]", re.ASCII)
"""What a name or label must not have: clients invent methods, and `:`, `|`, `#`, `,` and line ends mean something here."""


class Statsd:
    """The sender of a pod.

    Args:
        options: what `MM_METRICS` says.
        readings: asked every `PERIOD`.
    """

    def __init__(self, options: StatsdOptions, readings: Readings) -> None:
        self._options, self._readings = options, readings
        self._names: dict[tuple[Family, Key], tuple[str, str]] = {}
        self._lines: list[bytes] = []
        self._size = 0
        self._before: dict[tuple[Family, Key], float] = {}
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rounds: asyncio.Task[None] | None = None

    # What happens

    def observe(self, family: Family, key: Key, value: float) -> None:
        """As of `Sink`."""
        if family.statsd is None:
            return
        names = self._names.get((family, key))
        if names is None:
            names = self._names[family, key] = (
                self._of_call(family, key) if family.labels else (self._name(family), self._count_name(family))
            )
        if names[0]:
            self._put(names[0], f"{value:.0f}|ms")
        if names[1]:
            self._put(names[1], "1|c")

    def count(self, family: Family, key: Key, by: float) -> None:
        """As of `Sink`."""
        if family.statsd is not None:
            self._put(self._name(family), f"{by:.0f}|c")
        elif not self._options.legacy:
            self._put(self._name(family) + _labels(family, key), f"{by:g}|c")

    # Names; an empty one is not told

    def _of_call(self, family: Family, key: Key) -> tuple[str, str]:
        """Of a call's value and of its counter; methods are bounded in number, and so are these."""
        method, code = _SPECIAL.sub("_", str(key[0]).replace("/", ".")), Code(key[1])
        name, count = self._name(family), self._count_name(family)
        if not self._options.legacy:
            labels = f"#method={method},code={code.name}"
            name, count = name + labels, count and count + labels
        else:
            name, count = f"{name}{method}", count and f"{count}{method}.{code.name}"
            if family not in _TIMES:
                name = f"{name}.{code.name}"
        return ("" if code is not Code.OK and family in _TIMES else name), count

    def _name(self, family: Family) -> str:
        if self._options.legacy and family.statsd is not None:
            return _PREFIX + family.statsd.legacy
        return f"{family.name}_statsd"

    def _count_name(self, family: Family) -> str:
        if family.statsd is None or not family.statsd.count:
            return ""
        return _PREFIX + family.statsd.legacy if self._options.legacy else f"{family.statsd.count}_statsd"

    # Figures

    def tell_figures(self) -> None:
        """Sends gauges, and by how much counters that others keep have grown since the last time."""
        for family, figures in self._readings().items():
            if family.statsd is None and self._options.legacy:
                continue
            if family.kind is Kind.GAUGE:
                self._gauges(family, figures)
            else:
                self._grown(family, figures)

    def _gauges(self, family: Family, figures: Figures) -> None:
        unit = family.statsd.unit if self._options.legacy and family.statsd is not None else 1
        for key, value in figures.items():
            self._put(self._name(family) + _labels(family, key), f"{value // unit:.0f}|g")

    def _grown(self, family: Family, figures: Figures) -> None:
        for key, value in figures.items():
            by = value - self._before.get((family, key), 0.0)
            if by > 0:
                self.count(family, key, by)
            self._before[family, key] = value

    # Datagrams

    async def begin(self) -> None:
        """Opens the socket; what happened before is sent with what comes."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._rounds = asyncio.create_task(self._keep(), name="telling StatsD the figures")
        _log.info("metrics go to StatsD", extra={"port": self._options.port, "legacy": self._options.legacy})

    async def end(self) -> None:
        """Sends what is held and closes the socket."""
        if self._rounds is not None:
            self._rounds.cancel()
            with suppress(asyncio.CancelledError):
                await self._rounds
        self._send()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self.tell_figures()

    def _put(self, name: str, value: str) -> None:
        line = f"{name}:{value}".encode()
        if self._size + len(line) + 1 > LARGEST:
            self._send()
        self._lines.append(line)
        self._size += len(line) + 1
        if self._timer is None and self._socket is not None:
            self._timer = asyncio.get_running_loop().call_later(HELD, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines, self._size = self._lines, [], 0
        if lines and self._socket is not None:
            # Nobody listens, or the network is full: what StatsD misses is lost, as always.
            with suppress(OSError):
                self._socket.sendto(b"\n".join(lines), (HOST, self._options.port))


def _labels(family: Family, key: Key) -> str:
    pairs = zip(family.labels, (_SPECIAL.sub("_", str(value)) for value in key), strict=True)
    return "#" + ",".join(f"{name}={value}" for name, value in pairs) if family.labels else ""
