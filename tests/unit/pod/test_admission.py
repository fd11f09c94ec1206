"""A pod takes on only so much at a time, and says which setting is in the way."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Code, Overloaded
from mesh.pod.admission import Admission


def test_calls_beyond_the_limit_are_refused_and_do_not_count() -> None:
    admission = Admission(max_calls=2, max_held=0)
    with admission.call(), admission.call():
        with pytest.raises(Overloaded, match=r"2 calls in progress.*MESH_MAX_CALLS") as caught, admission.call():
            pass
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.elsewhere
        assert admission.calls == 2
    assert admission.calls == 0


class Shared:
    """A gate that others use, too."""

    def __init__(self) -> None:
        self.calls = self.most = 0

    def set_most(self, most: int) -> None:
        self.most = most

    def enter(self) -> bool:
        entered = self.calls < self.most
        self.calls += entered
        return entered

    def leave(self) -> None:
        self.calls -= 1


def test_calls_that_others_let_in_count_too() -> None:
    admission, gate = Admission(max_calls=3, max_held=0), Shared()
    admission.share(gate)
    assert gate.most == 3
    with admission.call():
        assert gate.enter()
        assert gate.enter()
        assert admission.calls == 3
        with pytest.raises(Overloaded, match="3 calls in progress"), admission.call():
            pass
        gate.leave()
        gate.leave()
    assert admission.calls == 0


def test_a_call_that_ends_makes_room_however_it_ends() -> None:
    admission = Admission(max_calls=1, max_held=0)
    with pytest.raises(ZeroDivisionError), admission.call():
        _ = 1 // 0
    with admission.call():
        assert admission.calls == 1


def test_bytes_beyond_the_limit_are_refused_and_do_not_count() -> None:
    admission = Admission(max_calls=9, max_held=100)
    with admission.hold(60), admission.hold(40):
        with pytest.raises(Overloaded, match=r"hold 100 bytes; 1 more exceed MESH_MAX_HELD_BYTES=100"), admission.hold(1):
            pass
        assert admission.held == 100
    assert admission.held == 0


def test_who_holds_nothing_is_always_taken() -> None:
    admission = Admission(max_calls=9, max_held=0)
    with admission.hold(0):
        assert admission.held == 0


@given(st.lists(st.integers(0, 60)))
def test_never_more_is_held_than_allowed(sizes: list[int]) -> None:
    admission = Admission(max_calls=1, max_held=100)
    with ExitStack() as held:
        taken = 0
        for size in sizes:
            if taken + size > 100:
                with pytest.raises(Overloaded):
                    held.enter_context(admission.hold(size))
            else:
                held.enter_context(admission.hold(size))
                taken += size
            assert admission.held == taken
    assert admission.held == 0
