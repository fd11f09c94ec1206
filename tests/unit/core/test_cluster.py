"""The pods that may hold a type, in sums: what is free, how old, how many."""

from __future__ import annotations

from mesh.core.ids import PodId
from mesh.core.placement.cluster import NOBODY, Cluster
from mesh.core.placement.constraints import Constraints
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units

ANY = Constraints()
SIZE = Units(10)


def a_pod(used: int, *, labels: tuple[str, ...] = (), lru: int = 1_000, endpoint: str = "x:1", leaving: bool = False) -> InstanceRecord:
    return InstanceRecord(
        labels=labels,
        lru_time=Millis(lru),
        capacity=Units(100),
        used=Units(used),
        load_threads=2,
        endpoint=endpoint,
        shutting_down=leaving,
    )


def cluster(*pods: InstanceRecord) -> Cluster:
    return Cluster([(PodId(f"p{number}"), pod) for number, pod in enumerate(pods)], SIZE)


def test_what_a_full_pod_has_left_is_no_room() -> None:
    whole = cluster(a_pod(40, lru=3_000), a_pod(95, lru=2_000)).of("any", ANY)
    assert (whole.pods, whole.capacity, whole.free, whole.free_percent) == (2, 200, 60, 30)
    assert whole.age(Millis(5_000)) == 3_000


def test_pods_that_leave_and_routers_of_another_kind_do_not_count() -> None:
    assert cluster(a_pod(0, leaving=True), a_pod(0, endpoint="")).of("any", ANY) == NOBODY


def test_a_type_counts_the_pods_that_may_hold_it() -> None:
    constraints = Constraints.parse('{"gpu": {"required": ["gpu"]}}')
    both = cluster(a_pod(0, labels=("gpu",)), a_pod(50), a_pod(20, labels=("gpu", "zone-a")))
    assert both.of("gpu", constraints).free == 180
    assert both.of("other", constraints).pods == 3


def test_without_pods_or_models_there_is_neither_room_nor_age() -> None:
    assert (NOBODY.free_percent, NOBODY.age(Millis(9))) == (0, 0)
    empty = cluster(a_pod(0, lru=NEVER), a_pod(0, lru=0)).of("any", ANY)
    assert (empty.lru_time, empty.free_percent) == (NEVER, 100)
