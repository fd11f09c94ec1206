"""One step after another brings the pods to those that are wanted, and never takes the last one away that serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mesh.local.environments import Environment
from mesh.local.kits import Kit, Share, Wanted
from mesh.local.rollout import Add, Remove, Replace, Restart, Seen, Widen, next_step
from mesh.local.servers.mlserver import SERVER
from mesh.manifests.runtimes import PodPlan

ENVIRONMENT = Environment("made", Path("/made"), "", given=True)
NAMES = ("a", "b", "c")


def kit(runtime: str, version: int = 0) -> Kit:
    return Kit(PodPlan(runtime, "mlserver", (), 2, 1, version), SERVER, None, ENVIRONMENT)


def wanted(runtime: str, least: int = 1, most: int | None = None, version: int = 0) -> Wanted:
    return Wanted(Share(least, least if most is None else most), kit(runtime, version))


def seen(name: str, runtime: str, version: int = 0, *, ready: bool = True) -> Seen:
    return Seen(name, kit(runtime, version), ready, ready)


@dataclass
class Pods:
    """Pods as the steps leave them; `works` says of which versions pods come to take calls."""

    there: list[Seen]
    works: frozenset[int] = frozenset(range(10))
    count: int = 100

    def take(self, step: Add | Remove | Replace | Restart | Widen) -> None:
        match step:
            case Add(made):
                self._add(made)
            case Remove(name, why):
                assert why
                self._end(name)
            case Replace(name, made):
                if self._add(made).ready:
                    self._end(name)
            case _:
                raise AssertionError(f"{step} is for a single pod")

    def _add(self, made: Kit) -> Seen:
        self.count += 1
        ready = made.plan.load_timeout in self.works
        self.there.append(Seen(f"pod-{self.count}", made, ready, ready))
        return self.there[-1]

    def _end(self, name: str) -> None:
        (gone,) = (one for one in self.there if one.name == name)
        self.there.remove(gone)

    def ready(self, runtime: str) -> int:
        return sum(one.ready for one in self.there if one.runtime == runtime)


SHARES = st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda drawn: Share(drawn[0], sum(drawn)))
PODS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2), st.booleans()), max_size=8)
WANTED = st.dictionaries(st.sampled_from(NAMES), st.tuples(SHARES, st.integers(0, 2), st.booleans()), min_size=1)


@given(there=PODS, asked=WANTED)
def test_from_any_pods_to_any_that_are_wanted(there: list[tuple[str, int, bool]], asked: dict[str, tuple[Share, int, bool]]) -> None:
    pods = Pods([seen(f"pod-{number}", runtime, version, ready=ready) for number, (runtime, version, ready) in enumerate(there)])
    wishes = {
        name: Wanted(share, kit(name, version)) if able else Wanted(share, None, "not here")
        for name, (share, version, able) in asked.items()
    }
    blocked = {name: [one for one in pods.there if one.runtime == name] for name, one in wishes.items() if one.kit is None}
    for _ in range(100):
        step = next_step(pods.there, wishes, alone=False)
        if step is None and all(one.ready for one in pods.there):
            break
        if step is None:
            pods.there = [replace(one, ready=True, served=True) for one in pods.there]
            continue
        before = {name: pods.ready(name) for name in wishes}
        pods.take(step)
        for name, one in wishes.items():
            # A step costs none of those that serve, unless there are more than wanted.
            assert pods.ready(name) >= min(before[name], one.share.least)
    else:
        raise AssertionError("it never comes to an end")
    for name, one in wishes.items():
        mine = [pod for pod in pods.there if pod.runtime == name]
        if one.kit is None:
            assert [pod.name for pod in mine] == [pod.name for pod in blocked[name]]
        else:
            assert one.share.least <= len(mine) <= max(one.share.most, one.share.least)
            assert all(pod.kit == one.kit for pod in mine)
    if any(one.runtime in wishes for one in pods.there):
        assert all(one.runtime in wishes for one in pods.there)


def test_a_kit_with_which_no_pod_starts_costs_none_that_serves() -> None:
    pods = Pods([seen("pod-0", "a"), seen("pod-1", "a")], works=frozenset([0, 2]))
    wishes = {"a": wanted("a", 2, version=1)}
    step = next_step(pods.there, wishes, alone=False)
    assert step == Replace("pod-0", kit("a", 1))
    pods.take(step)
    assert pods.ready("a") == 2
    assert next_step(pods.there, wishes, alone=False) is None, "the new one gets its time"
    for _ in range(10):
        better = next_step(pods.there, {"a": wanted("a", 2, version=2)}, alone=False)
        if better is None:
            break
        pods.take(better)
        assert pods.ready("a") >= 2
    assert [one.kit for one in pods.there] == [kit("a", 2)] * 2


def test_what_nobody_wants_ends_only_when_another_takes_calls() -> None:
    old, new = seen("pod-0", "a"), seen("pod-1", "b", ready=False)
    assert next_step([old, new], {"b": wanted("b")}, alone=False) is None
    step = next_step([old, replace(new, ready=True)], {"b": wanted("b")}, alone=False)
    assert isinstance(step, Remove)
    assert (step.pod, step.why) == ("pod-0", "the runtime a is not wanted any more")


def test_a_single_pod_starts_again_for_its_own_runtime_and_gives_way_to_several_for_another() -> None:
    pod = seen("mesh-local-0", "a")
    assert next_step([pod], {"a": wanted("a")}, alone=True) is None
    assert next_step([pod], {"a": wanted("a", version=1)}, alone=True) == Restart("mesh-local-0", kit("a", 1))
    assert next_step([pod], {"a": wanted("a"), "b": wanted("b")}, alone=True) == Widen(kit("a"))
    assert next_step([pod], {"b": wanted("b")}, alone=True) == Widen(kit("b"))
    assert next_step([pod], {"a": wanted("a", 2)}, alone=True) == Widen(kit("a"))
    later = {"a": Wanted(Share(1, 1), None, "its image is away"), "b": wanted("b")}
    assert next_step([pod], later, alone=True) is None, "it goes on as it is"


def test_of_too_many_pods_the_latest_ends_and_before_it_one_that_takes_no_calls() -> None:
    three = [seen("pod-0", "a"), seen("pod-1", "a", ready=False), seen("pod-2", "a")]
    assert next_step(three, {"a": wanted("a")}, alone=False) == Remove("pod-1", "1 pods of a are wanted")
    assert next_step([three[0], three[2]], {"a": wanted("a")}, alone=False) == Remove("pod-2", "1 pods of a are wanted")


def test_a_number_that_follows_what_pods_want_is_left_to_that_between_its_bounds() -> None:
    two = [seen("pod-0", "a"), seen("pod-1", "a")]
    assert next_step(two, {"a": wanted("a", 1, 3)}, alone=False) is None
    assert next_step([], {"a": wanted("a", 1, 3)}, alone=False) == Add(kit("a"))
    step = next_step(two, {"a": wanted("a", 1, 1)}, alone=False)
    assert isinstance(step, Remove)
    assert step.pod == "pod-1"
