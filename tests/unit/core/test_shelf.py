"""A shelf is a sorted dictionary whose entries have revisions, whatever comes and goes, also while somebody walks along it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.registry import shelf as module
from mesh.core.registry.shelf import LEAF, SLACK, Entry, Shelf

NAMES = st.text("abc\U0001f600", max_size=4)
CHANGES = st.lists(st.tuples(st.sampled_from(["put", "put", "remove", "revise"]), NAMES, st.integers(0, 2**60)), max_size=60)


def changed(shelf: Shelf, plain: dict[str, tuple[object, int]], change: tuple[str, str, int]) -> None:
    """Does the same to a shelf and to a dictionary."""
    kind, name, number = change
    if kind == "put":
        shelf.put(name, number, number)
        plain[name] = (number, number)
    elif kind == "remove":
        shelf.remove(name)
        plain.pop(name, None)
    elif name in plain:
        shelf.revise(name, number)
        plain[name] = (plain[name][0], number)


@given(st.lists(st.lists(st.tuples(NAMES, st.integers(0, 2**60)), max_size=20), max_size=6), st.booleans(), st.integers(1, 5))
def test_many_names_at_once_are_as_one_after_the_other(lists: list[list[tuple[str, int]]], in_order: bool, size: int) -> None:
    try:
        at_once, one_by_one = small_leaves(size + 1), Shelf()
        if in_order:
            # As they are read of a store: each list behind the one before.
            lists = [sorted(dict(part).items()) for part in lists]
            lists = sorted([part for part in lists if part])
        for part in lists:
            names, numbers = [name for name, _ in part], [number for _, number in part]
            at_once.extend(names, list(map(str, numbers)), numbers)
            for name, number in part:
                one_by_one.put(name, f"{number}", number)
            assert list(at_once.entries()) == list(one_by_one.entries())
            assert len(at_once) == len(one_by_one)
            assert all(at_once.find(entry.name) == entry for entry in one_by_one.entries())
            at_once.remove(names[-1] if names else "")
            one_by_one.remove(names[-1] if names else "")
    finally:
        module.LEAF = LEAF


def small_leaves(size: int) -> Shelf:
    module.LEAF = size
    return Shelf()


@given(CHANGES, NAMES, NAMES, st.integers(1, 5))
def test_it_equals_a_dictionary(changes: list[tuple[str, str, int]], mark: str, end: str, size: int) -> None:
    try:
        shelf, plain = small_leaves(size + 1), dict[str, tuple[object, int]]()
        for change in changes:
            changed(shelf, plain, change)
            ordered = [Entry(name, *plain[name]) for name in sorted(plain)]
            assert list(shelf.entries()) == ordered
            assert list(shelf) == sorted(plain)
            assert len(shelf) == len(plain)
        later = sorted(name for name in plain if name > mark)
        assert shelf.after(mark) == later
        assert shelf.after(mark, size) == later[:size]
        assert shelf.is_last(mark) == (not later)
        assert [entry.name for entry in shelf.entries(mark, end)] == [name for name in sorted(plain) if mark <= name < end]
        assert (mark in shelf) == (mark in plain)
        assert shelf.find(mark) == (Entry(mark, *plain[mark]) if mark in plain else None)
        then = shelf.revisions()
        shelf.forget_revisions()
        assert all(then.of(name) == plain.get(name, (None, 0))[1] for name in {mark, end, *plain})
        assert {entry.name: (entry.value, entry.revision) for entry in shelf.entries()} == {name: (plain[name][0], 0) for name in plain}
    finally:
        module.LEAF = LEAF


MOMENTS = st.lists(st.one_of(st.sampled_from(["look", "forget", "forget"]), CHANGES), max_size=8)


@given(MOMENTS, st.integers(1, 5))
def test_revisions_of_one_time_stay_whatever_changes_later(moments: list[str | list[tuple[str, str, int]]], size: int) -> None:
    try:
        shelf, plain = small_leaves(size + 1), dict[str, tuple[object, int]]()
        looks = []
        for moment in moments:
            if moment == "look":
                looks.append((shelf.revisions(), {name: revision for name, (_, revision) in plain.items()}))
            elif moment == "forget":
                shelf.forget_revisions()
                plain = {name: (value, 0) for name, (value, _) in plain.items()}
            else:
                for change in moment:
                    assert not isinstance(change, str)
                    changed(shelf, plain, change)
        for then, revisions in looks:
            assert all(then.of(name) == revisions.get(name, 0) for name in {*revisions, *plain, "a", "none"})
        assert list(shelf.entries()) == [Entry(name, *plain[name]) for name in sorted(plain)]
    finally:
        module.LEAF = LEAF


@given(st.sets(NAMES), CHANGES)
def test_who_walks_while_it_changes_sees_what_stays(first: set[str], changes: list[tuple[str, str, int]]) -> None:
    try:
        shelf, plain = small_leaves(3), dict[str, tuple[object, int]]()
        for name in first:
            changed(shelf, plain, ("put", name, 1))
        seen, left = [], list(changes)
        for name in shelf:
            seen.append(name)
            if left:
                changed(shelf, plain, left.pop())
        assert seen == sorted(set(seen))
        touched = {name for kind, name, _ in changes if kind != "revise"}
        assert first - touched <= set(seen)
    finally:
        module.LEAF = LEAF


@pytest.mark.parametrize("at_once", [False, True])
def test_leaves_of_names_that_come_in_order_have_room_for_some_in_between(at_once: bool) -> None:
    shelf, filled = Shelf(), LEAF - LEAF // SLACK
    names = [f"{number:06}" for number in range(10 * filled)]
    if at_once:
        shelf.extend(names, names, [1] * len(names))
    else:
        for name in names:
            shelf.put(name, None)
    assert len(shelf._leaves) == 10
    for number in range(LEAF // SLACK):
        shelf.put(f"000000{number:03}", None)
    assert len(shelf._leaves) == 10
    shelf.put("000000a", None)
    assert len(shelf._leaves) == 11


def test_the_string_that_is_kept_is_the_one_that_is_shared() -> None:
    shelf, name = Shelf(), "".join(["na", "me"])
    shelf.put(name, 1)
    shelf.put("".join(["nam", "e"]), 2)
    found = shelf.find("name")
    assert found is not None
    assert found.name is name
    assert shelf.same("".join(["na", "me"])) is name
    other = "".join(["oth", "er"])
    assert shelf.same(other) is other


def test_leaves_that_are_empty_go() -> None:
    shelf = Shelf()
    names = [f"{number:06}" for number in range(3 * LEAF)]
    for name in names:
        shelf.put(name, None)
    first = LEAF - LEAF // SLACK
    for name in names[first:]:
        shelf.remove(name)
    assert len(shelf._leaves) == 1
    assert list(shelf) == names[:first]


def test_what_follows_a_name_goes_on_in_the_next_leaves() -> None:
    shelf, names = Shelf(), [f"{number:05}" for number in range(3 * LEAF)]
    for number, name in enumerate(names):
        shelf.put(name, None, number)
    assert shelf.after("") == names
    assert shelf.after(names[0], LEAF + 7) == names[1 : LEAF + 8]
