"""Where the runtime limits calls on a copy, callers stand in a line of bounded length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest

from mesh.core.cache.copies import Copy
from mesh.core.errors import Code, QueueFull
from mesh.pod.places import Own
from mesh.pod.turns import Turns
from tests.unit.pod.bench import OFF, Bench, turns

if TYPE_CHECKING:
    import mesh_lane


@pytest.fixture
async def copy(bench: Bench) -> Copy:
    return await bench.serving("m")


Given = asyncio.Task[Callable[[], None]]


def ask(line: Turns, copy: Copy) -> Given:
    """One more call on the copy, which asks for its turn."""
    copy.calls += 1
    return asyncio.get_running_loop().create_task(line.take(copy))


async def test_a_runtime_without_limits_takes_all(copy: Copy) -> None:
    line = Turns(OFF, limited=False, longest=1)
    assert all([await ask(line, copy) for _ in range(100)])


@pytest.mark.parametrize(("concurrency", "at_once"), [(0, 1), (1, 1), (3, 3)])
async def test_as_many_run_as_the_copy_takes(copy: Copy, concurrency: int, at_once: int) -> None:
    copy.calls, copy.concurrency = 0, concurrency
    line = Turns(OFF, limited=True, longest=0)
    asked = [ask(line, copy) for _ in range(6)]
    await turns()
    assert [task.done() for task in asked] == [True] * at_once + [False] * (6 - at_once)
    for task in asked:
        task.cancel()


async def test_turns_come_in_the_order_of_arrival(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 1
    line, order = Turns(OFF, limited=True, longest=0), list[int]()

    async def caller(number: int) -> None:
        copy.calls += 1
        back = await line.take(copy)
        order.append(number)
        await asyncio.sleep(0)
        copy.calls -= 1
        back()

    await asyncio.gather(*map(caller, range(12)))
    assert order == list(range(12))


@pytest.mark.parametrize(("longest", "concurrency", "fit"), [(0, 1, 16), (0, 3, 24), (5, 1, 5), (1, 4, 1)])
async def test_beyond_the_longest_line_calls_are_refused(copy: Copy, longest: int, concurrency: int, fit: int) -> None:
    copy.calls, copy.concurrency = 0, concurrency
    line = Turns(OFF, limited=True, longest=longest)
    standing = [ask(line, copy) for _ in range(fit)]
    await turns()
    refused = ask(line, copy)
    with pytest.raises(QueueFull, match=f"Model queue overload: {fit + 1} calls .* of m") as caught:
        await refused
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    for task in standing:
        assert not task.done() or task.exception() is None
        task.cancel()


async def test_a_line_may_be_of_any_length(copy: Copy) -> None:
    copy.concurrency = 1
    line = Turns(OFF, limited=True, longest=-1)
    standing = [ask(line, copy) for _ in range(2000)]
    await turns()
    assert sum(task.done() for task in standing) == 1
    for task in standing:
        task.cancel()


@pytest.mark.parametrize(
    ("longest", "concurrency", "limits"),
    [(0, 0, (1, 15)), (0, 4, (4, 28)), (3, 4, (3, 0)), (-1, 4, (4, 2**32 - 1)), (0, 2**31 - 1, (2**31 - 1, 2**32 - 1))],
)
async def test_what_the_lane_is_told_fits(copy: Copy, longest: int, concurrency: int, limits: tuple[int, int]) -> None:
    copy.concurrency = concurrency
    assert Turns(OFF, limited=True, longest=longest).limits(copy) == limits
    assert Turns(OFF, limited=False, longest=longest).limits(copy) == (0, 0)


async def test_who_leaves_the_line_takes_no_turn(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 1
    line = Turns(OFF, limited=True, longest=0)
    first, leaver, third = (ask(line, copy) for _ in range(3))
    back = await first
    leaver.cancel()
    await turns()
    back()
    assert callable(await third)


async def test_who_leaves_just_when_its_turn_comes_passes_it_on(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 1
    line = Turns(OFF, limited=True, longest=0)
    first, leaver, third = (ask(line, copy) for _ in range(3))
    back = await first
    await turns()
    back()
    leaver.cancel()
    assert callable(await third)


async def test_a_limit_that_changes_counts_from_the_next_call_on(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 1
    line = Turns(OFF, limited=True, longest=0)
    asked = [ask(line, copy) for _ in range(3)]
    await turns()
    assert [task.done() for task in asked] == [True, False, False]
    copy.concurrency = 3
    asked.append(ask(line, copy))
    await turns()
    assert [task.done() for task in asked] == [True, True, True, False]
    (await asked[0])()
    assert callable(await asked[3])


async def test_each_copy_has_its_own_line(bench: Bench, copy: Copy) -> None:
    other = await bench.serving("other")
    copy.concurrency = other.concurrency = 1
    line = Turns(OFF, limited=True, longest=0)
    await ask(line, copy)
    assert callable(await ask(line, other))


class Account(Own):
    """Of an express lane."""

    calls, waiting, last_used = 2, 3, 0

    def adopt(self, calls: int) -> None:
        assert all(not self.ask() for _ in range(calls))

    def times(self) -> tuple[int, int, list[int], int]:
        """As two calls that took five milliseconds each, and of which one waited for another."""
        return 2, 10_000, [1, 0, 1], 1_000


async def test_the_time_of_the_lanes_calls_is_kept_too(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 2
    line, account = Turns(OFF, limited=True, longest=0), cast("mesh_lane.Copy", Account(2, 14))
    (await ask(line, copy))()
    spent = line.spent
    copy.account = account
    line.share(copy, account)
    line.count(copy.id.model, account, copy)
    assert (copy.timed, line.spent) == (3, spent + 10)
    assert copy.busy == pytest.approx(line.spent)
    line.count(copy.id.model, account, None)
    assert (copy.timed, line.spent) == (3, spent + 20)


async def test_those_of_the_lane_are_among_the_calls_that_a_refusal_tells_of(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 1
    line, account = Turns(OFF, limited=True, longest=1), cast("mesh_lane.Copy", Account(1, 0))
    copy.account = account
    line.share(copy, account)
    assert account.ask() == 0
    with pytest.raises(QueueFull, match="overload: 6 calls"):
        await ask(line, copy)


async def test_the_time_of_calls_on_the_runtime_is_kept_without_that_of_waiting(copy: Copy) -> None:
    copy.calls, copy.concurrency = 0, 1
    line = Turns(OFF, limited=True, longest=0)
    first, second = ask(line, copy), ask(line, copy)
    back = await first
    await asyncio.sleep(0.03)
    back()
    (await second)()
    assert (copy.timed, line.busyness) == (2, int(copy.busy / 60))
    assert copy.busy == pytest.approx(line.spent)
    assert 30 <= copy.busy < 60_000
    assert line.busyness == int(line.spent / 60)
