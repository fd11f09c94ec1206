"""What a judgement of a rollout says: figures of both versions, what was decided, by what evidence, and what would have changed it."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import Ending, Standing, What
from mesh.core.traffic.ticks import Memory, Tick


def hard_sign(tick: Tick) -> str:
    """Why the canary is given up without any comparison; empty if it is not."""
    if tick.unloadable:
        return f"it cannot be loaded: {tick.unloadable}"
    return f"it ended its runtime: {tick.crashed}" if tick.crashed else ""


def figures(standing: Standing) -> str:
    """Calls and failures of both versions in this step, and their latencies of late."""
    canary = _version(standing.canary_calls, standing.canary_failed, standing.canary)
    return f"canary: {canary}; stable: {_version(standing.stable_calls, standing.stable_failed, standing.stable)}"


def missing(plan: Plan, standing: Standing, not_shown: Sequence[What]) -> list[str]:
    """What a step still lacks before it is passed, each in words."""
    found = []
    left = plan.hold_ms - (standing.looked - standing.since)
    if left > 0:
        found.append(f"{_span(left)} of the time that a step is held")
    if standing.canary_calls < plan.hold_calls:
        found.append(f"{plan.hold_calls - standing.canary_calls} calls of the canary")
    needed = 1 / plan.wrong_promotion
    for what in not_shown:
        total = standing.safe[list(What).index(what)].total
        found.append(f"evidence that it is not {_worse(plan, what, found=True)} in {what.value} ({_odds(total)}, it takes {_odds(needed)})")
    return found


def going_on(plan: Plan, standing: Standing, lacks: Sequence[str], *, over: bool) -> str:
    """A step goes on, or is at a dead end."""
    against = "; ".join(f"{what.value} {_odds(wealth.total)}" for what, wealth in zip(What, standing.harm, strict=True) if wealth.total > 1)
    head = "on hold, neither better nor worse is shown within the limit" if over else "goes on"
    change = "; more calls, a longer limit, or a person who decides, would end it" if over else ""
    return (
        f"{_step(plan, standing)} {head}. {figures(standing)}. Missing: {', '.join(lacks)}{change}. "
        f"Evidence that it is worse: {against or 'none'}; {_odds(len(What) / plan.wrong_rollback)} would roll it back"
    )


def promoted(plan: Plan, standing: Standing) -> str:
    """A step is passed."""
    shown = ", ".join(
        f"not {_worse(plan, what, found=True)} in {what.value} ({_odds(wealth.total)})"
        for what, wealth in zip(What, standing.safe, strict=True)
    )
    return (
        f"{_step(plan, standing)} is passed, {plan.steps[standing.step + 1]} % from now on. {figures(standing)}. Shown: {shown}. "
        f"It would have stayed with {stayed(plan)}"
    )


def stayed(plan: Plan) -> str:
    """What would have kept a step from being passed."""
    return f"less than {_odds(1 / plan.wrong_promotion)} for any of these, or a longer hold"


def kept(plan: Plan) -> str:
    """What would have kept the canary."""
    return f"less than {_odds(len(What) / plan.wrong_rollback)}, or more that is tolerated"


def harm(plan: Plan, standing: Standing, found: Sequence[What]) -> str:
    """Why the canary is rolled back by comparison."""
    shown = ", ".join(
        f"{_worse(plan, what, found=False)} in {what.value} ({_odds(standing.harm[list(What).index(what)].total)})" for what in found
    )
    return f"it is shown to be {shown}; {kept(plan)}, would have kept it"


def ended(plan: Plan, standing: Standing, ending: Ending, cause: str) -> str:
    """The last words on a rollout."""
    what = "the rollout is done, the canary is the stable version" if ending is Ending.PROMOTED else "the canary is rolled back"
    return f"{_step(plan, standing)}: {what}: {cause}. {figures(standing)}"


def _worse(plan: Plan, what: What, *, found: bool) -> str:
    """By how much, counted as it is compared."""
    if what is What.FAILURES:
        share = plan.failures_found if found else plan.failures_tolerated
        return f"worse by {'' if found else 'more than '}{100 * share:g} points"
    factor = plan.factor_found if found else plan.factor_tolerated
    return f"worse by {'' if found else 'more than '}{100 * (factor - 1):.0f} %"


def _step(plan: Plan, standing: Standing) -> str:
    return f"step {standing.step + 1} of {len(plan.steps)} ({plan.steps[standing.step]} %)"


def _version(calls: int, failed: int, memory: Memory) -> str:
    share = f", {100 * failed / calls:.2g} % failed" if calls else ""
    middle, tail = memory.quantile(0.5), memory.quantile(0.95)
    times = "" if middle is None or tail is None else f", median {middle:.3g} ms, 95th percentile {tail:.3g} ms"
    return f"{calls} calls{share}{times}"


def _odds(evidence: float) -> str:
    """Evidence in words: a hypothesis that holds is bet against with such success once in so many times at most."""
    return f"{evidence:.0f} to 1" if evidence >= 10 else f"{evidence:.2g} to 1"


def _span(milliseconds: int) -> str:
    return f"{milliseconds / 60_000:.0f} min" if milliseconds >= 120_000 else f"{-(-milliseconds // 1000)} s"
