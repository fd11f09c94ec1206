"""A rolling update shows in the pods that come and go; the old ones get nothing new while it lasts."""

from __future__ import annotations

from mesh.core.ids import PodId
from mesh.core.placement.rollout import Rollout
from mesh.core.registry.instances import InstanceRecord
from mesh.core.units import Millis

MINUTE = 60_000
NOON = 1_700_000_000_000
OLD = [PodId(f"aaaaaa-{n * 5}") for n in "xyz"]
NEW = [PodId(f"bbbbbb-{n * 5}") for n in "xyz"]


class Mesh:
    """What one pod sees; times are minutes after noon."""

    def __init__(self) -> None:
        self.rollout = Rollout()

    def starts(self, *pods: PodId, at: float, seen: float | None = None, labels: tuple[str, ...] = ()) -> None:
        for pod in pods:
            record = InstanceRecord(start_time=_at(at), labels=labels)
            self.rollout.seen(pod, record, _at(at if seen is None else seen))

    def goes(self, *pods: PodId, at: float) -> None:
        for pod in pods:
            self.rollout.gone(pod, _at(at))

    def outdated(self, at: float) -> set[PodId]:
        return set(self.rollout.outdated(_at(at)))


def _at(minutes: float) -> Millis:
    return Millis(NOON + int(minutes * MINUTE))


def an_update() -> Mesh:
    """The old pods run for a day; the first new one starts at noon."""
    mesh = Mesh()
    mesh.starts(*OLD, at=-24 * 60)
    assert mesh.outdated(-1) == set()
    mesh.starts(NEW[0], at=0)
    return mesh


def test_when_the_first_pod_of_a_new_set_appears_the_old_set_is_outdated() -> None:
    assert an_update().outdated(0) == set(OLD)


def test_an_update_that_stops_is_forgotten_ten_minutes_after_the_last_new_pod() -> None:
    mesh = an_update()
    assert mesh.outdated(9.9) == set(OLD)
    assert mesh.outdated(10) == set()


def test_as_long_as_the_old_set_shrinks_it_is_outdated_for_up_to_twenty_minutes() -> None:
    mesh = an_update()
    mesh.goes(OLD[0], at=2)
    assert mesh.outdated(16.9) == set(OLD[1:])
    assert mesh.outdated(17) == set(), "fifteen minutes after the last old pod went"
    mesh.goes(OLD[1], at=18)
    assert mesh.outdated(19.9) == {OLD[2]}
    assert mesh.outdated(20) == set(), "twenty minutes after the last new pod started"


def test_asking_again_costs_nothing_until_a_pod_comes_or_a_time_runs_out() -> None:
    rollout = an_update().rollout
    answer = rollout.outdated(_at(1))
    assert rollout.outdated(_at(9)) is answer
    rollout.seen(NEW[0], InstanceRecord(start_time=_at(0), rpm=500), _at(9))
    assert rollout.outdated(_at(9)) is answer
    assert rollout.outdated(_at(10)) == set()


def test_each_new_pod_prolongs_it() -> None:
    mesh = an_update()
    mesh.starts(NEW[1], at=8)
    assert mesh.outdated(17.9) == set(OLD)
    assert mesh.outdated(18) == set()


def test_a_set_that_gets_pods_too_since_the_newest_began_is_in_use() -> None:
    mesh = an_update()
    mesh.starts(PodId("aaaaaa-later"), at=1)
    assert mesh.outdated(2) == set()


def test_three_sets_at_once_and_only_the_newest_counts() -> None:
    mesh = an_update()
    newest = PodId("cccccc-xxxxx")
    mesh.starts(newest, at=3)
    assert mesh.outdated(4) == {*OLD, NEW[0]}


def test_it_does_not_matter_in_which_order_a_starting_pod_learns_of_the_others() -> None:
    mesh = Mesh()
    mesh.starts(*NEW, at=0, seen=5)
    mesh.starts(*OLD, at=-24 * 60, seen=5)
    assert mesh.outdated(9.9) == set(OLD)
    assert mesh.outdated(10) == set(), "that it saw the old ones only now is no change of their set"


def test_a_record_that_changes_is_not_a_new_pod() -> None:
    mesh = an_update()
    for minute in range(10):
        mesh.starts(*OLD, NEW[0], at=minute)
    assert mesh.outdated(9.9) == set(OLD), "nor is a container that restarted in its pod"
    assert mesh.outdated(10) == set()


def test_a_pod_that_shuts_down_has_left_its_set() -> None:
    mesh = an_update()
    leaving = InstanceRecord(start_time=_at(-24 * 60), shutting_down=True)
    mesh.rollout.seen(OLD[0], leaving, _at(3))
    mesh.rollout.seen(OLD[0], leaving, _at(4))
    assert mesh.outdated(17.9) == set(OLD[1:]), "which is a change of the set, once"
    assert mesh.outdated(18) == set()


def test_when_all_new_pods_are_gone_again_nothing_is_outdated() -> None:
    mesh = an_update()
    mesh.goes(NEW[0], at=1)
    assert mesh.outdated(1) == set()


def test_pods_with_other_labels_are_another_deployment() -> None:
    mesh = Mesh()
    mesh.starts(*OLD, at=-60, labels=("triton",))
    mesh.starts(*NEW, at=0, labels=("mlserver",))
    assert mesh.outdated(1) == set()
    mesh.starts(*NEW, at=0, seen=2, labels=("triton",))
    assert mesh.outdated(2) == set(OLD), "a pod belongs where its labels are now"


def test_pods_that_no_deployment_named_are_never_outdated() -> None:
    mesh = Mesh()
    mesh.starts(PodId("pod-0"), PodId("mesh-store-1"), PodId("laptop"), at=-60)
    mesh.starts(PodId("pod-1"), PodId("mlserver-one"), at=0)
    mesh.goes(PodId("pod-0"), PodId("never-seen-x"), at=1)
    assert mesh.outdated(1) == set()
