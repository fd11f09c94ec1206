"""A replay tells what pods would have done with a trace: the same for the same seed, better with more memory and with a mesh."""

from __future__ import annotations

import functools

import pytest

from mesh.core.errors import MeshError
from mesh.simulation.making import Making, make
from mesh.simulation.replay import Policy, Setup, replay
from mesh.simulation.report import Report
from mesh.simulation.trace import Trace, TracedModel

MIB = 1 << 20
WISH = Making(models=60, rate=10, zipf=0.9, seconds=40, size=40 * MIB, seed=3)


@functools.cache
def replayed(capacity: int = 512 * MIB, pods: int = 2, policy: Policy = Policy.mesh, seed: int = 0) -> Report:
    """One replay of the same trace."""
    return replay(make(WISH), Setup(pods, capacity, policy=policy, seed=seed))


def test_every_call_is_counted_once_and_no_bug_shows() -> None:
    report = replayed()
    assert report.complaints == []
    assert report.total("calls") == len(make(WISH).accesses)
    assert len(report.first) + len(report.others) + report.total("errors") == report.total("calls")
    assert report.total("loads") >= 60 - 40
    assert 0 < report.moments[-1].used <= 2 * 512 * MIB
    assert report.moments[-1].resident <= report.moments[-1].copies


def test_more_memory_gives_a_higher_hit_rate_fewer_loads_and_a_quicker_first_answer() -> None:
    small, large, all_fit = (replayed(capacity) for capacity in (512 * MIB, 1024 * MIB, 4096 * MIB))
    assert small.hit_rate < large.hit_rate < all_fit.hit_rate
    assert small.total("loads") > large.total("loads") > all_fit.total("loads")
    assert sum(small.first) > sum(large.first) > sum(all_fit.first)
    assert (all_fit.total("evictions"), all_fit.failures) == (0, {})


def test_the_same_seed_gives_the_same_report_and_another_one_another() -> None:
    again = replay(make(WISH), Setup(2, 512 * MIB))
    assert again.to_json() == replayed().to_json()
    assert replayed(seed=1).to_json()["overTime"] != replayed().to_json()["overTime"]


def test_pods_that_know_each_other_hit_more_often_than_strangers() -> None:
    strangers = replayed(policy=Policy.random)
    assert strangers.total("calls") == replayed().total("calls")
    assert strangers.complaints == []
    assert strangers.hit_rate < replayed().hit_rate
    assert replayed(policy=Policy.hashed).hit_rate > strangers.hit_rate


def test_progress_tells_of_every_call() -> None:
    told: list[int] = []
    trace = Trace([(0.0, "a"), (0.1, "a")], {"a": TracedModel(MIB, 10.0, 1.0)})
    report = replay(trace, Setup(1, 512 * MIB), told.append)
    assert (told, report.total("calls"), report.total("loads"), report.notes) == ([1, 1], 2, 1, [])


def test_a_model_that_is_larger_than_a_pod_is_told_and_its_calls_fail() -> None:
    trace = Trace([(0.0, "huge"), (1.0, "a")], {"huge": TracedModel(2048 * MIB, 10.0, 1.0), "a": TracedModel(MIB, 10.0, 1.0)})
    report = replay(trace, Setup(1, 512 * MIB, deadline=5.0))
    assert report.notes == ["models that are larger than a pod, and never load: 1, e.g. huge"]
    assert (report.total("errors"), sum(report.failures.values()), len(report.first)) == (1, 1, 1)


def test_memory_for_less_than_ten_small_models_is_no_pod() -> None:
    trace = Trace([(0.0, "a")], {"a": TracedModel(1, 1.0, 1.0)})
    with pytest.raises(MeshError, match="capacityInBytes is 40000"):
        replay(trace, Setup(1, 40_000))
