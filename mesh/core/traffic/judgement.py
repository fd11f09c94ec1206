"""One judgement of a rollout as evidence: what `mesh explain` tells of it, and by which it is made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import DECIDED_BY
from mesh.core.traffic import words
from mesh.core.traffic.judging import Outcome, Verdict, judge, not_shown
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import Standing
from mesh.core.traffic.ticks import Counts, Tick

NAME = "judging"
"""What the JSON calls the function."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that one look was decided by.

    Attributes:
        standing: before the tick.
    """

    plan: Plan
    standing: Standing
    tick: Tick

    @property
    def verdict(self) -> Verdict:
        """What it came to."""
        return judge(self.plan, self.standing, self.tick)[1]

    def again(self) -> str:
        """The value of an `Outcome`."""
        return self.verdict.outcome.value

    def reason(self) -> str:
        """For users."""
        return self.verdict.words

    def candidates(self) -> Sequence[Candidate]:
        """Both versions with what they did in this tick; neither is chosen as long as it goes on."""
        outcome = self.verdict.outcome
        canary, stable = outcome is Outcome.PROMOTE, outcome is Outcome.ROLL_BACK
        both = [
            Candidate("canary", canary, _score(self.tick.canary), "it is worse" if stable else ""),
            Candidate("stable", stable, _score(self.tick.stable), "the canary does as well" if canary else ""),
        ]
        return both[::-1] if stable else both

    def would_change(self) -> Sequence[str]:
        """What would have made it another verdict."""
        after, verdict = judge(self.plan, self.standing, self.tick)
        if verdict.outcome is Outcome.ROLL_BACK:
            sign = words.hard_sign(self.tick)
            return [f"that it had not been so: {sign}" if sign else f"evidence of {words.kept(self.plan)}"]
        if verdict.outcome is Outcome.PROMOTE:
            return [f"evidence of {words.stayed(self.plan)}"]
        return words.missing(self.plan, after, not_shown(self.plan, after))

    def inputs(self) -> dict[str, object]:
        """As JSON."""
        return {DECIDED_BY: NAME, "plan": self.plan.to_json(), "standing": self.standing.to_json(), "tick": self.tick.to_json()}

    @classmethod
    def from_json(cls, data: Any) -> Judgement:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        try:
            return cls(Plan.from_json(data["plan"]), Standing.from_json(data["standing"]), Tick.from_json(data["tick"]))
        except KeyError as error:
            raise Malformed(f"inputs of a judgement lack {error}") from None


def _score(counts: Counts) -> dict[str, object]:
    return {"calls": counts.calls, "failed": counts.failed}
