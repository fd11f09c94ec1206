"""Patterns of users: of the whole text, in linear time, and refused beforehand if they cannot be used."""

import pytest

from mesh.wire.patterns import fault, fits


def test_a_pattern_fits_the_whole_text_or_not_at_all() -> None:
    assert fits("de(-.*)?", "de-AT")
    assert not fits("de", "de-AT")
    assert not fits("e", "de")


@pytest.mark.parametrize("pattern", ["(a", "a{5000}", "((a{100}){100}){100}", "(?=a)b", r"(a)\1", "["])
def test_a_pattern_that_cannot_be_used_has_a_fault_and_fits_nothing(pattern: str) -> None:
    assert fault(pattern)
    assert not fits(pattern, "a")


def test_a_pattern_that_makes_others_try_for_ever_is_answered() -> None:
    assert fault("(a+)+b") is None
    assert not fits("(a+)+b", "a" * 100_000)
