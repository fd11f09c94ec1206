"""Free space is filled with what was used last, half of it at most; a full mesh replaces little, and only what is much older."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.explaining.recorded import from_json
from mesh.core.ids import ModelId, PodId
from mesh.core.placement.constraints import Constraints
from mesh.core.policy import HOUR
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.scaling.proactive import NEWER, SPARED, Early, Filling
from mesh.core.units import Millis, Units

NOW = Millis(10**12)
SIZE = Units(10)
A, B = PodId("a"), PodId("b")
ANYWHERE = Constraints()
GPU = Constraints.parse('{"gpu": {"required": ["gpu"]}}')


def pod(
    capacity: int = 800, used: int = 0, count: int = 0, *, lru: int = NEVER, labels: tuple[str, ...] = (), loads: int = 0
) -> InstanceRecord:
    return InstanceRecord(
        lru_time=Millis(lru),
        capacity=Units(capacity),
        used=Units(used),
        count=count,
        labels=labels,
        load_threads=2,
        loads_in_progress=loads,
    )


def model(used: int, *, kind: str = "any", copies: tuple[PodId, ...] = (), failed: int = 0) -> ModelRecord:
    failures = {PodId(f"f{number}"): NOW for number in range(failed)}
    return ModelRecord(ModelInfo(kind), dict.fromkeys(copies, NOW), failed=failures, last_used=Millis(used))


def chosen(pods: dict[PodId, InstanceRecord], models: dict[str, ModelRecord], constraints: Constraints = ANYWHERE) -> list[str]:
    filling = Filling(pods, constraints, SIZE, NOW)
    for name, record in models.items():
        filling.offer(ModelId(name), record)
    return [early.model for early in filling.chosen()]


def many(count: int, kind: str = "any", name: str = "m") -> dict[str, ModelRecord]:
    """So many models, the later ones used more recently."""
    return {f"{name}{number:03}": model(NOW - (count - number) * 1000, kind=kind) for number in range(count)}


# Free space


def test_half_of_what_is_free_is_filled_with_what_was_used_last() -> None:
    # 800 less an eighth are 700; half of that is room for 35.
    names = chosen({A: pod()}, many(100))
    assert names == [f"m{number:03}" for number in range(99, 64, -1)]


def test_models_that_are_loaded_fail_or_have_dead_copies_only() -> None:
    models = {"loaded": model(1, copies=(A,)), "failing": model(1, failed=2), "failed once": model(1, failed=1)}
    models["lost"] = model(2, copies=(PodId("dead"),))
    assert chosen({A: pod()}, models) == ["lost", "failed once"]


def test_models_used_at_the_same_time_are_all_candidates() -> None:
    assert len(chosen({A: pod()}, {f"m{number}": model(5) for number in range(20)})) == 20


def test_a_pod_with_many_loads_under_way_is_given_no_more() -> None:
    assert len(chosen({A: pod(loads=94)}, many(100))) == 3, "half of the six that it may have yet"
    assert chosen({A: pod(loads=100)}, {"m": model(5)}) == []


def test_the_size_is_guessed_until_there_are_enough_copies() -> None:
    assert len(chosen({A: pod(used=80, count=2)}, many(100))) == 31
    assert len(chosen({A: pod(used=150, count=5)}, many(100))) == 13, "half of 550, each 20: the mean of 10 and 30"
    assert len(chosen({A: pod(used=400, count=20)}, many(100))) == 7, "half of 300, each 20"


# Who may have what


def test_pods_of_a_type_are_filled_with_that_type_and_space_is_given_away_once() -> None:
    pods = {A: pod(labels=("gpu",)), B: pod()}
    models = {**many(100, "gpu", "g"), **many(100)}
    names = chosen(pods, models, GPU)
    assert sum(name.startswith("g") for name in names) <= 35
    assert len(names) <= 70
    assert chosen({B: pod()}, many(10, "gpu", "g"), GPU) == [], "nobody can have them"


# Replacing


def full(age: int) -> InstanceRecord:
    return pod(capacity=800, used=700, count=70, lru=NOW - age)


def test_in_a_full_mesh_a_twentieth_is_replaced_by_what_was_used_much_later() -> None:
    day = 24 * HOUR
    recent = {f"r{number:02}": model(NOW - number * 1000) for number in range(20)}
    assert chosen({A: full(day)}, recent) == ["r00", "r01", "r02", "r03"]
    old = {"just younger": model(NOW - day + day // 3), "old": model(NOW - day)}
    assert chosen({A: full(day)}, old) == []


def test_in_a_mesh_that_turns_over_fast_nothing_is_replaced() -> None:
    assert chosen({A: full(NEWER)}, {"m": model(NOW)}) == []


def test_a_use_in_the_far_future_is_none() -> None:
    assert chosen({A: pod()}, {"far": model(NEVER), "recent": model(NOW - 1000)}) == ["recent", "far"]


# Told


times = st.integers(0, 2 * HOUR).map(lambda age: Millis(NOW - age))


@given(times, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), times | st.just(NEVER))
def test_what_was_decided_can_be_decided_again(used: Millis, rank: int, free: int, total: int, lru: Millis) -> None:
    early = Early(ModelId("m"), used, rank, free, total, lru, NOW, SIZE)
    assert from_json(Early, early.inputs()) == early
    (candidate,) = early.candidates()
    assert candidate.chosen == (early.again() == "load")
    assert early.reason()
    assert early.would_change()


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 40), st.booleans()), min_size=1, max_size=4),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_never_more_than_half_of_the_free_space_is_filled(shape: list[tuple[int, int, bool]], plain: int, gpu: int) -> None:
    pods = {
        PodId(f"p{number}"): pod(1000, used, count, labels=("gpu",) if labelled else ())
        for number, (used, count, labelled) in enumerate(shape)
    }
    filling = Filling(pods, GPU, SIZE, NOW)
    for name, record in {**many(plain), **many(gpu, "gpu", "g")}.items():
        filling.offer(ModelId(name), record)
    taken = sum(early.size for early in filling.chosen())
    assert taken <= sum(max(0, 1000 - 1000 // SPARED - record.used) for record in pods.values()) / 2
