"""Names stay in order while they come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.registry.listing import Listing

NAMES = st.text("abc", max_size=3)


@given(st.sets(NAMES), st.lists(st.tuples(st.booleans(), NAMES)), NAMES)
def test_a_listing_is_a_sorted_set(first: set[str], changes: list[tuple[bool, str]], mark: str) -> None:
    listing, names = Listing(first), set(first)
    for comes, name in changes:
        (listing.add if comes else listing.discard)(name)
        (names.add if comes else names.discard)(name)
    wanted = sorted(name for name in names if name > mark)
    assert listing.after(mark) == wanted
    assert listing.after(mark, 2) == wanted[:2]
    assert listing.is_last(mark) == (not wanted)
    assert len(listing) == len(names)
    assert all((name in listing) == (name in names) for name in [mark, *first, *(name for _, name in changes)])


def test_the_first_name_follows_no_name() -> None:
    assert Listing(["b", "a"]).after("", 9) == ["a", "b"]
