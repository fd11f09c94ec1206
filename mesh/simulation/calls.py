"""What came of a client's call."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Called:
    """One call of a client.

    Attributes:
        number: of the call, from 0.
        name: of the model or alias.
        entry: the pod where it came in.
        begun, ended: seconds of simulated time; `ended` is None while it runs.
        model: that answered; empty without an answer.
        server: the pod whose runtime answered; empty without an answer.
        error: why there is no answer; a RuntimeStatus or a MeshError.
        executed: pods whose runtime carried it out, in order; more than one only if something broke in between.
        broken: why the network or a runtime may have lost an answer of it.
        cold: whether no copy served when it began.
        deadline: seconds that it was given.
    """

    number: int
    name: str
    entry: str
    begun: float
    deadline: float | None
    cold: bool
    ended: float | None = None
    model: str = ""
    error: Exception | None = None
    executed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def server(self) -> str:
        """The pod whose runtime answered."""
        return self.executed[-1] if self.model else ""
