"""A pod tells others how it is when they would decide differently by it, and not more often than they can bear."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.cache.busyness import MINUTE, Busyness
from mesh.core.cache.publishing import LONGEST, SHORTEST, due, least_space, significant
from mesh.core.policy import Policy
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units

NOW = Millis(10_000_000)
LEAST = Units(500)
HOUR_AGO = Millis(NOW - 3_600_000)
PODS: dict[str, Any] = {
    "capacity": Units(10_000),
    "used": Units(1_000),
    "count": 100,
    "load_threads": 4,
    "rpm": 2_000,
    "lru_time": HOUR_AGO,
    "endpoint": "here:1",
}


def pod(**changes: Any) -> InstanceRecord:
    return InstanceRecord(**(PODS | changes))


def matters(before: InstanceRecord, after: InstanceRecord) -> bool:
    there, back = significant(before, after, NOW, LEAST), significant(after, before, NOW, LEAST)
    assert there == back
    return there


# What matters


@pytest.mark.parametrize(
    "change",
    [
        {"shutting_down": True},
        {"endpoint": "here:2"},
        {"capacity": Units(10_300)},
        {"load_threads": 5},
        {"lru_time": Millis(HOUR_AGO + 20_000)},
        {"lru_time": NEVER},
        {"count": 110},
        {"used": Units(1_300)},
        {"loads_in_progress": 1},
        {"rpm": 2_300},
        {"calls": 300},
        {"idle": Units(500)},
    ],
    ids=str,
)
def test_what_changes_a_decision_is_told(change: dict[str, Any]) -> None:
    assert matters(pod(), pod(**change))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"zone": "b"},
        {"capacity": Units(10_100)},
        {"lru_time": Millis(HOUR_AGO + 19_000)},
        {"count": 109},
        {"used": Units(1_150)},
        {"rpm": 2_099},
    ],
    ids=str,
)
def test_what_does_not_is_not(change: dict[str, Any]) -> None:
    assert not matters(pod(), pod(**change))


def test_a_young_cache_ages_fast() -> None:
    young = Millis(NOW - 32_000)
    assert significant(pod(lru_time=young), pod(lru_time=Millis(young + 2_000)), NOW, LEAST)
    assert not significant(pod(lru_time=young), pod(lru_time=Millis(young + 1_900)), NOW, LEAST)


def test_a_few_more_are_much_where_there_are_few() -> None:
    assert matters(pod(count=4), pod(count=5))
    assert matters(pod(count=0), pod(count=1))
    assert matters(pod(rpm=5), pod(rpm=6))
    assert not matters(pod(rpm=100), pod(rpm=110))


def test_becoming_full_is_told_however_little_was_added() -> None:
    assert matters(pod(used=Units(9_500)), pod(used=Units(9_501)))
    assert not matters(pod(used=Units(9_499)), pod(used=Units(9_500)))


@pytest.mark.parametrize(
    ("before", "after", "told"), [(1, 3, False), (1, 4, True), (4, 5, True), (5, 7, False), (9, 12, True), (1, 0, True)]
)
def test_loads_are_told_when_the_pod_becomes_idle_busy_or_busier(before: int, after: int, told: bool) -> None:
    assert matters(pod(loads_in_progress=before), pod(loads_in_progress=after)) is told


def test_full_is_less_than_a_load_takes() -> None:
    # The worked example of reference 4.2: 1 GiB, models of 50 MiB, six loads at a time.
    assert least_space(Policy(Units(131_072), Units(6_400), 6, Millis(90_000))) == 6_553


# When


def test_the_first_record_is_written_at_once() -> None:
    assert due(None, Millis(0), pod(), NOW, LEAST) == NOW


def test_a_change_too_soon_is_written_later_and_not_dropped() -> None:
    assert due(pod(), Millis(NOW - 500), pod(count=200), NOW, LEAST) == NOW - 500 + SHORTEST
    assert due(pod(), Millis(NOW - SHORTEST), pod(count=200), NOW, LEAST) == NOW
    assert due(pod(), Millis(NOW - 90_000), pod(count=200), NOW, LEAST) == NOW


def test_a_small_change_is_written_in_the_end() -> None:
    assert due(pod(), Millis(NOW - LONGEST), pod(count=101), NOW, LEAST) is None
    assert due(pod(), Millis(NOW - LONGEST - 1), pod(count=101), NOW, LEAST) == NOW
    assert due(pod(), Millis(NOW - LONGEST - 1), pod(), NOW, LEAST) is None


# Busyness


def test_calls_a_minute_are_those_of_the_last_minutes() -> None:
    busy = Busyness(0, NOW)
    assert busy.rpm(100, Millis(NOW + 9_000)) == 0
    assert busy.rpm(100, Millis(NOW + 30_000)) == 200
    for minute in range(1, 7):
        assert busy.rpm(60 * minute, Millis(NOW + minute * MINUTE)) == 60
    for minute in range(7, 14):
        busy.rpm(360, Millis(NOW + minute * MINUTE))
    assert busy.rpm(360, Millis(NOW + 14 * MINUTE)) == 0
