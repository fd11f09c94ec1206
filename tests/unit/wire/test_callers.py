"""Who calls, as the express lane tells it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.wire.callers import Announced, Caller, announced

HEAD = b"\r\n\r\n\0\r\nQUIT\n\x21"
PLAIN = HEAD + b"\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x02\x01\x02\0\x02"
SECURED = HEAD + b"\x11\0\x1b\x7f\0\0\x01\x7f\0\0\x02\x01\x02\0\x02\x20\0\x0c\x03\0\0\0\0\xe0\0\x04CN=a"
ENDS = ("127.0.0.1", 258), ("127.0.0.2", 2)


def test_an_announcement_is_read() -> None:
    assert announced(PLAIN + b"GET") == Announced(*ENDS, secure=False, subject=None, length=len(PLAIN))
    assert announced(SECURED) == Announced(*ENDS, secure=True, subject="CN=a", length=len(SECURED))
    six = HEAD + b"\x21\0\x2c" + bytes(15) + b"\x01" + bytes(15) + b"\x02" + b"\0\x07\0\x08" + b"\x20\0\x05\x01\0\0\0\x01"
    assert announced(six) == Announced(("::1", 7), ("::2", 8), secure=True, subject=None, length=len(six))


def test_an_announcement_may_come_in_pieces() -> None:
    assert [announced(SECURED[:size]) for size in range(len(SECURED))] == [None] * len(SECURED)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", HEAD + b"\x12\0\x0c" + bytes(12), HEAD + b"\x21\0\x0c" + bytes(12), b"\x16\x03\x01"]
)
def test_what_is_no_announcement_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match="express lane"):
        announced(data)


@given(st.binary(), st.binary(max_size=40))
def test_garbage_is_read_or_refused(data: bytes, more: bytes) -> None:
    for text in (data, HEAD + b"\x11" + len(more).to_bytes(2) + more):
        try:
            found = announced(text)
        except Malformed:
            continue
        assert found is None or found.length <= len(text)


def test_a_caller_is_told_beside_a_call() -> None:
    told = (("mm-lane-subject", "CN=%C3%A9"), ("x", "1"), ("mm-lane-peer", "ipv4:127.0.0.1:1"))
    assert Caller.told(told) == Caller("ipv4:127.0.0.1:1", "CN=é")
    assert str(Caller.told(told)) == "ipv4:127.0.0.1:1 (CN=é)"
    assert Caller.told(told[1:]) == Caller("ipv4:127.0.0.1:1")
    assert str(Caller("unix:")) == "unix:"
    assert Caller.told(told[:2]) is None
