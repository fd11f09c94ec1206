"""A shelf is a sorted dictionary whose entries have revisions, whatever comes and goes, also while somebody walks along it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.registry import shelf as module
from mesh.core.registry.shelf import LEAF, Entry, Shelf

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


def test_names_that_come_in_order_fill_their_leaves() -> None:
    shelf = Shelf()
    for number in range(10 * LEAF):
        shelf.put(f"{number:06}", None)
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


def test_leaves_that_are_empty_go() -> None:
    shelf = Shelf()
    names = [f"{number:06}" for number in range(3 * LEAF)]
    for name in names:
        shelf.put(name, None)
    for name in names[LEAF:]:
        shelf.remove(name)
    assert len(shelf._leaves) == 1
    assert list(shelf) == names[:LEAF]


def test_what_follows_a_name_goes_on_in_the_next_leaves() -> None:
    shelf, names = Shelf(), [f"{number:05}" for number in range(3 * LEAF)]
    for number, name in enumerate(names):
        shelf.put(name, None, number)
    assert shelf.after("") == names
    assert shelf.after(names[0], LEAF + 7) == names[1 : LEAF + 8]
