"""Who leads: of all candidates the one whose entry was created first, as ModelMesh elects (reference 6.10)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mesh.core.ids import PodId
from mesh.store.registry import LeadershipListener

log = logging.getLogger(__name__)

PREFIX = "_"
"""Before the pod's id in the name of its candidacy, as ModelMesh has it."""


class Candidacy(NamedTuple):
    """One candidate's entry: the revision that created it, and the lease that it lives under, if the store has leases."""

    created: int
    lease: int = 0


class Election:
    """What follows from the candidates there are; asked again whenever they, or the own session, change."""

    def __init__(self, candidates: Mapping[str, Candidacy], lives: Callable[[Candidacy], bool]) -> None:
        """Args:
        candidates: mirror of the candidacies by name.
        lives: whether the own one is certain to be there still; the mirror may show what is gone.
        """
        self._candidates, self._lives = candidates, lives
        self._me: PodId | None = None
        self._told = False
        self._listeners: list[LeadershipListener] = []

    @property
    def leader(self) -> PodId | None:
        """Whose candidacy is the oldest; None if it is this pod's and may be gone."""
        if not self._candidates:
            return None
        name, first = min(self._candidates.items(), key=lambda item: item[1].created)
        leader = PodId(name.removeprefix(PREFIX))
        return None if leader == self._me and not self._lives(first) else leader

    @property
    def leads(self) -> bool:
        """Whether that is this pod."""
        return self._me is not None and self.leader == self._me

    def listen(self, listener: LeadershipListener) -> None:
        """Has it told when this pod begins or ceases to lead."""
        self._listeners.append(listener)

    def stand(self, pod: PodId) -> str:
        """Names this pod; the name of its candidacy."""
        self._me = pod
        return f"{PREFIX}{pod}"

    def withdraw(self) -> None:
        """This pod leads no more, whatever the mirror shows."""
        self._me = None
        self.look()

    def look(self) -> None:
        """Tells a change."""
        if (leads := self.leads) != self._told:
            self._told = leads
            for listener in self._listeners:
                try:
                    listener(leads)
                except Exception:
                    log.exception("a listener to the leadership failed; the others are told")
