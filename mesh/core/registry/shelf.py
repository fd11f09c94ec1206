"""Names in order, each with what is kept for it and the revision that wrote it, for millions of them.

A dictionary of a million names costs 20 bytes more for each, has no order, and stops everything for some 50 ms when it grows. Here names
lie in leaves of some hundred, so that a change moves little and a walk in order can be interrupted by changes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import lt
from typing import Any, NamedTuple

LEAF = 512
"""Names of one leaf; a change among a million takes about a microsecond more than in a dictionary."""


SLACK = 4
"""Of names that come in order a leaf takes so much less: a fourth. Full ones would each be split by the next name that comes in between,
and the lists that a split makes are young: the garbage collector goes through their thousand names."""


class Entry(NamedTuple):
    """What is kept for a name; `name` is the very string that is kept, for others to share."""

    name: str
    value: Any
    revision: int


class _Leaf:
    """Attributes:
    lent: others may have its names or its revisions, which are to stay for them as they are.
    """

    __slots__ = ("lent", "names", "revisions", "values")

    def __init__(self, names: list[str], values: list[Any], revisions: array[int]) -> None:
        self.names, self.values, self.revisions = names, values, revisions
        self.lent = False

    def own(self) -> None:
        """Before they are changed."""
        if self.lent:
            self.names, self.revisions, self.lent = self.names[:], self.revisions[:], False


class Stock:
    """The names and revisions of a shelf at one time."""

    def __init__(self, firsts: list[str], leaves: list[tuple[list[str], array[int]]]) -> None:
        self._firsts, self._leaves = firsts, leaves

    def of(self, name: str) -> int:
        """The revision of a name; 0 if there was none."""
        names, revisions = self._leaves[bisect_right(self._firsts, name) - 1]
        at = bisect_left(names, name)
        return revisions[at] if at < len(names) and names[at] == name else 0


class Shelf:
    """A sorted mapping of names to values with revisions."""

    __slots__ = ("_count", "_firsts", "_leaves")

    def __init__(self) -> None:
        self._leaves = [_Leaf([], [], array("q"))]
        self._firsts = [""]
        """A bound for each leaf: its names are not before it, and those of the leaf before it are."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        names = self._leaves[bisect_right(self._firsts, name) - 1].names
        at = bisect_left(names, name)
        return at < len(names) and names[at] == name

    def __iter__(self) -> Iterator[str]:
        """All names in order; those that come and go meanwhile are shown or not."""
        for entry in self.entries():
            yield entry.name

    def find(self, name: str) -> Entry | None:
        """What is kept for a name."""
        leaf = self._leaves[bisect_right(self._firsts, name) - 1]
        at = bisect_left(leaf.names, name)
        if at < len(leaf.names) and leaf.names[at] == name:
            return Entry(leaf.names[at], leaf.values[at], leaf.revisions[at])
        return None

    def same(self, name: str) -> str:
        """The very string that is kept, or the one that is given if none is."""
        names = self._leaves[bisect_right(self._firsts, name) - 1].names
        at = bisect_left(names, name)
        return names[at] if at < len(names) and names[at] == name else name

    def put(self, name: str, value: Any, revision: int = 0) -> None:
        """Keeps a value in place of what was kept."""
        number = len(self._leaves) - 1
        leaf = self._leaves[number]
        if leaf.names and name > leaf.names[-1]:
            # As names come that are read in order: a million of them while a pod starts.
            if len(leaf.names) >= LEAF - LEAF // SLACK:
                leaf, _ = self._split(number, len(leaf.names))
            leaf.own()
            leaf.names.append(name)
            leaf.values.append(value)
            leaf.revisions.append(revision)
            self._count += 1
            return
        number = bisect_right(self._firsts, name) - 1
        leaf = self._leaves[number]
        at = bisect_left(leaf.names, name)
        leaf.own()
        if at < len(leaf.names) and leaf.names[at] == name:
            leaf.values[at] = value
            leaf.revisions[at] = revision
            return
        if len(leaf.names) >= LEAF:
            leaf, at = self._split(number, at)
        leaf.names.insert(at, name)
        leaf.values.insert(at, value)
        leaf.revisions.insert(at, revision)
        self._count += 1

    def extend(self, names: list[str], values: list[Any], revisions: list[int]) -> None:
        """Keeps values for names as they are read in order; as quick as a list where all are behind those that are kept.

        Args:
            names, values, revisions: of the same length.
        """
        last = self._leaves[-1].names[-1:]
        if not all(map(lt, [*last, *names], names if last else names[1:])):
            for name, value, revision in zip(names, values, revisions, strict=True):
                self.put(name, value, revision)
            return
        begin = 0
        while begin < len(names):
            leaf = self._leaves[-1]
            room = LEAF - LEAF // SLACK - len(leaf.names)
            if room <= 0:
                leaf, _ = self._split(len(self._leaves) - 1, len(leaf.names))
                continue
            leaf.own()
            end = begin + room
            leaf.names += names[begin:end]
            leaf.values += values[begin:end]
            leaf.revisions.extend(revisions[begin:end])
            begin = end
        self._count += len(names)

    def remove(self, name: str) -> None:
        """Keeps nothing for a name."""
        number = bisect_right(self._firsts, name) - 1
        leaf = self._leaves[number]
        at = bisect_left(leaf.names, name)
        if at == len(leaf.names) or leaf.names[at] != name:
            return
        leaf.own()
        del leaf.names[at], leaf.values[at], leaf.revisions[at]
        self._count -= 1
        if not leaf.names and number:
            del self._leaves[number], self._firsts[number]

    def revise(self, name: str, revision: int) -> None:
        """Notes another revision for a name that is there."""
        leaf = self._leaves[bisect_right(self._firsts, name) - 1]
        leaf.own()
        leaf.revisions[bisect_left(leaf.names, name)] = revision

    def forget_revisions(self) -> None:
        """All become 0; takes a microsecond a leaf."""
        zeros: dict[int, array[int]] = {}
        for leaf in self._leaves:
            size = len(leaf.names)
            if size not in zeros:
                zeros[size] = array("q", bytes(8 * size))
            leaf.revisions, leaf.lent = zeros[size], True

    def revisions(self) -> Stock:
        """The revisions of now, whatever changes; takes a microsecond a leaf: what changes later is copied then."""
        for leaf in self._leaves:
            leaf.lent = True
        return Stock(self._firsts[:], [(leaf.names, leaf.revisions) for leaf in self._leaves])

    def after(self, name: str, most: int | None = None) -> list[str]:
        """The names that follow one, in order; so many at most, without a number all. The one itself need not be there."""
        number = bisect_right(self._firsts, name) - 1
        names = self._leaves[number].names
        found = names[bisect_right(names, name) :]
        while (most is None or len(found) < most) and (number := number + 1) < len(self._leaves):
            found += self._leaves[number].names
        return found if most is None else found[:most]

    def is_last(self, name: str) -> bool:
        """Whether none follows."""
        names = self._leaves[-1].names
        return not names or names[-1] <= name

    def entries(self, begin: str = "", end: str | None = None) -> Iterator[Entry]:
        """What is kept for names from `begin` on and before `end`, in order; changes meanwhile are shown or not."""
        while True:
            number = bisect_right(self._firsts, begin) - 1
            leaf, behind = self._leaves[number], self._firsts[number + 1 : number + 2]
            at = bisect_left(leaf.names, begin)
            # Copies, because whoever walks may let others change the leaf.
            for entry in list(map(Entry, leaf.names[at:], leaf.values[at:], leaf.revisions[at:])):
                if end is not None and entry.name >= end:
                    return
                yield entry
            if not behind:
                return
            begin = behind[0]

    def _split(self, number: int, at: int) -> tuple[_Leaf, int]:
        """Makes room; where what was to go to place `at` of a leaf goes now. At its end a new one begins: names come in order."""
        leaf = self._leaves[number]
        leaf.own()
        middle = at if at == len(leaf.names) else LEAF // 2
        right = _Leaf(leaf.names[middle:], leaf.values[middle:], leaf.revisions[middle:])
        first = right.names[0] if right.names else leaf.names[-1] + "\0"
        del leaf.names[middle:], leaf.values[middle:], leaf.revisions[middle:]
        self._leaves.insert(number + 1, right)
        self._firsts.insert(number + 1, first)
        return (leaf, at) if right.names and at <= middle else (right, at - middle)
