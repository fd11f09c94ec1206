"""Asks pods for their calls and loads, and makes a trace of what they tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from mesh.core.errors import Failed, Malformed
from mesh.simulation.trace import Trace, TracedModel

PATH = "/mesh/v1"
TIMEOUT = 10.0


@dataclass
class _Pod:
    """What was asked of one pod.

    Attributes:
        begun: when it was first asked, by its clock in ms; None before.
        next: the number to ask with.
    """

    url: str
    begun: int | None = None
    next: int = 0


@dataclass
class Recording:
    """Calls of a mesh, as its pods tell them.

    Attributes:
        calls: seconds since the begin, model, and the ms that it took.
        lost: entries that were not fetched in time.
    """

    calls: list[tuple[float, str, float]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    loads: dict[str, list[float]] = field(default_factory=dict)
    lost: int = 0
    _pods: dict[str, _Pod] = field(default_factory=dict)

    def ask(self, http: httpx.Client, urls: Iterable[str], since: Callable[[], float]) -> int:
        """Fetches what is new from each pod; one that does not answer is asked again the next time.

        Args:
            urls: where pods tell their state: `http://host:port` of `MM_PROBE_PORT`.
            since: seconds since the recording began.

        Returns:
            How many pods answered.

        Raises:
            Malformed: what answers there is no pod of this mesh.
        """
        answered = 0
        for url in urls:
            pod = self._pods.setdefault(url, _Pod(url))
            more = True
            while more:
                page = _get(http, f"{url}{PATH}/accesses", after=pod.next)
                if page is None:
                    break
                if pod.begun is None:
                    pod.begun = page["now_ms"] - round(since() * 1000)
                self._take(page, pod.begun)
                pod.next, more = page["next"], page["more"]
            else:
                answered += 1
        return answered

    def measure(self, http: httpx.Client, urls: Iterable[str]) -> None:
        """Learns the sizes of models that are loaded; those that a pod loaded before it was asked are not told otherwise."""
        for url in urls:
            for copy in (_get(http, f"{url}{PATH}/copies") or {}).get("copies", ()):
                if copy["state"] == "ready":
                    self.sizes.setdefault(copy["model"], copy["weight_bytes"])

    def trace(self) -> Trace:
        """All calls that began since the recording did, in order. Failed if there was none."""
        calls = sorted(call for call in self.calls if call[0] >= 0)
        if not calls:
            raise Failed("nobody called a model while it was recorded, so there is no trace; are these the pods that clients call?")
        took: dict[str, list[float]] = {}
        for _, model, ms in calls:
            # Of a call that waited for the load only the rest is the call's own.
            load = min(self.loads.get(model, [0.0]))
            took.setdefault(model, []).append(ms - load if ms >= load else ms)
        trace = Trace([(at, model) for at, model, _ in calls])
        for model, times in took.items():
            load_ms = median(self.loads[model]) if model in self.loads else None
            trace.models[model] = TracedModel(self.sizes.get(model), load_ms, round(median(times), 3))
        return trace

    def _take(self, page: dict[str, Any], begun: int) -> None:
        self.lost += page["lost"]
        for kind, at, model, value in page["entries"]:
            if kind == "call":
                self.calls.append(((at - begun) / 1000, model, value))
            elif kind == "load":
                self.loads.setdefault(model, []).append(value)
            else:
                self.sizes[model] = int(value)


def _get(http: httpx.Client, url: str, **params: Any) -> Any:
    """A pod's answer; None if it does not give one now."""
    try:
        answer = http.get(url, params=params)
    except httpx.InvalidURL as error:
        raise Malformed(f"{url} is no address: {error}") from None
    except (httpx.TransportError, httpx.UnsupportedProtocol):
        return None
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return None
    if not answer.is_success:
        raise Malformed(
            f"{url} is no pod that tells its calls (it answers {answer.status_code}); name its MM_PROBE_PORT, e.g. http://10.0.0.7:8089"
        )
    try:
        return answer.json()
    except ValueError:
        raise Malformed(f"{url} is no pod that tells its calls; name its MM_PROBE_PORT, e.g. http://10.0.0.7:8089") from None
