"""What pods say to each other beside a call and its answer, written and read again."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.core.errors import Bug, Code, Failed, LoadFailed, Malformed, MeshError, NotHere, Overloaded, PeerUnavailable, TooLarge
from mesh.core.ids import ModelId, PodId
from mesh.core.routing.hops import Hop, Kind, Load
from mesh.core.units import Millis
from mesh.protocols import peer_pb2 as pb
from mesh.wire.call import Metadata, RuntimeStatus
from mesh.wire.headers import from_runtime, to_runtime
from mesh.wire.hops import (
    ERROR,
    HOP,
    LARGEST_HOP,
    LOAD,
    POD,
    error_of,
    error_trailers,
    hop_of,
    load_of,
    load_trailers,
    pod_of,
    pod_trailers,
    to_peer,
    without_hop,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
PODS = NAMES.map(PodId)
TIMES = st.integers(-(2**63), 2**63 - 1).map(Millis)
HOPS = st.builds(
    Hop,
    st.sampled_from(Kind),
    NAMES.map(ModelId),
    PODS,
    PODS,
    alias=st.just("") | NAMES,
    last_used=TIMES,
    urgent=st.booleans(),
    tried=st.frozensets(st.tuples(PODS, TIMES), max_size=5),
    avoid=st.frozensets(PODS, max_size=5),
    # Travels in a header of its own.
    request=st.just(""),
)
PLAIN = Hop(Kind.HIT, ModelId("digits"), PodId("a"), PodId("b"))


def subclasses(root: type[MeshError]) -> list[type[MeshError]]:
    return [root, *(found for child in root.__subclasses__() for found in subclasses(child))]


ERRORS = [kind for kind in subclasses(MeshError) if kind.__module__ == "mesh.core.errors"]


# Hops


@given(HOPS)
def test_a_hop_is_read_as_it_was_written_whatever_the_ids_are(hop: Hop) -> None:
    assert hop_of(to_peer((("x", "y"),), hop)) == hop


def test_a_call_of_a_client_has_no_hop() -> None:
    assert hop_of((("mm-model-id", "digits"), ("x", "y"))) is None


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x0a\xff")
def test_garbage_is_either_a_whole_hop_or_refused(data: bytes) -> None:
    with suppress(Malformed):
        read = hop_of(((HOP, data),))
        assert read is not None
        assert read.model
        assert read.dest


@pytest.mark.parametrize("data", [b"", b"\x0a\xff", b"\xff" * 20, b"hit digits"])
def test_what_cannot_be_read_is_refused_by_the_name_of_the_header(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"^header mesh-hop-bin"):
        hop_of(((HOP, data),))


def test_a_kind_that_newer_pods_have_is_refused_and_a_field_is_skipped() -> None:
    newer = pb.Hop(kind=7, model="digits", sender="a", dest="b")  # type: ignore[arg-type]
    with pytest.raises(Malformed, match="no kind 7 of hops in this version"):
        hop_of(((HOP, newer.SerializeToString()),))
    known = pb.Hop(
        kind=pb.Hop.HIT,
        model="digits",
        sender="a",
        dest="b",
    ).SerializeToString()
    assert hop_of(((HOP, known + b"\xa2\x06\x03new"),)) == PLAIN


@pytest.mark.parametrize("missing", ["model", "sender", "dest"])
def test_a_hop_without_a_name_says_which(missing: str) -> None:
    message = pb.Hop(kind=pb.Hop.LOAD, model="digits", sender="a", dest="b")
    message.ClearField(missing)  # type: ignore[arg-type]
    with pytest.raises(Malformed, match=f"header mesh-hop-bin must name {missing}"):
        hop_of(((HOP, message.SerializeToString()),))


def test_ids_too_long_to_travel_are_refused_before_the_call_leaves() -> None:
    with pytest.raises(TooLarge, match=f"cannot be passed to another pod: its ids take .* bytes, and {LARGEST_HOP} are the limit"):
        to_peer((), Hop(Kind.HIT, ModelId("m" * LARGEST_HOP), PodId("a"), PodId("b")))


def test_what_the_caller_sent_travels_but_for_the_transports_own_and_forged_hops() -> None:
    sent: Metadata = (
        ("mm-model-id", "digits"),
        ("traceparent", "00-1"),
        ("x-bin", b"\x00\xff"),
        ("user-agent", "grpc-python"),
        ("grpc-timeout", "1S"),
        (HOP, b"forged"),
        ("mesh-hop", "forged"),
        (POD, b"forged"),
        (ERROR, "Bug"),
    )
    travels = to_peer(sent, PLAIN)
    assert without_hop(travels) == sent[:3]
    assert hop_of(travels) == PLAIN


def test_neither_a_runtime_nor_a_client_sees_what_pods_add() -> None:
    added: Metadata = (*to_peer((), PLAIN), *pod_trailers(PodId("a")), *load_trailers(Load(1, Millis(2))), *error_trailers(Bug("x")))
    assert len(added) == 4
    assert to_runtime((*added, ("x", "y")), ModelId("digits"))[:1] == (("x", "y"),)
    assert from_runtime((*added, ("x", "y"))) == (("x", "y"),)


# Who answered, and how busy it is


@given(PODS)
def test_a_pod_is_read_as_it_was_written(pod: PodId) -> None:
    assert pod_of(pod_trailers(pod)) == pod


def test_an_answer_without_a_mark_is_nobodys() -> None:
    assert pod_of((("x", "y"),)) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_load_is_read_as_it_was_written(calls: int, used: int) -> None:
    assert load_of(load_trailers(Load(calls, Millis(used), Millis(used + 1)))) == Load(calls, Millis(used), Millis(used + 1))


@pytest.mark.parametrize("text", ["", "a b", "-1 2", "² 3", "1.5 2", f"{10**20} 1"])
def test_a_load_that_cannot_be_read_is_none_and_spoils_nothing(text: str) -> None:
    assert load_of(((LOAD, text),)) is None


def test_more_numbers_of_newer_pods_are_skipped() -> None:
    assert load_of(((LOAD, "3 77 99 new"),)) == Load(3, Millis(77), Millis(99))
    assert load_of(((LOAD, "3"),)) == Load(3)


# Errors


@given(st.sampled_from(ERRORS), st.text())
def test_every_error_of_the_mesh_comes_back_as_it_left(kind: type[MeshError], message: str) -> None:
    read = error_of(RuntimeStatus(kind.code, message, trailers=error_trailers(kind(message))))
    assert type(read) is kind
    assert read.message == message


def test_a_status_without_the_trailer_is_the_runtimes() -> None:
    assert error_of(RuntimeStatus(Code.UNAVAILABLE, "busy", trailers=(("x", "y"),))) is None


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_an_error_that_only_newer_pods_have_becomes_the_nearest_with_its_message(code: Code) -> None:
    read = error_of(RuntimeStatus(code, "said", trailers=((ERROR, "Newer"),)))
    assert read is not None
    assert read.message == "said"
    known = {kind.code for kind in ERRORS}
    assert read.code is (code if code in known else Code.INTERNAL)


def test_the_nearest_errors_keep_whether_another_pod_may_help() -> None:
    nearest = {code: type(error_of(RuntimeStatus(code, "", trailers=((ERROR, "Newer"),)))) for code in Code}
    assert nearest[Code.RESOURCE_EXHAUSTED] is Overloaded
    assert nearest[Code.INTERNAL] is Failed
    unavailable = error_of(RuntimeStatus(Code.UNAVAILABLE, "", trailers=((ERROR, "Newer"),)))
    assert unavailable is not None
    assert unavailable.elsewhere


def test_a_kind_of_error_of_one_module_travels_as_what_all_know() -> None:
    class Special(LoadFailed):
        """Known here only."""

    assert error_trailers(Special("x")) == ((ERROR, "LoadFailed"),)
    assert error_trailers(NotHere("x")) == ((ERROR, "NotHere"),)
    assert error_trailers(PeerUnavailable("x")) == ((ERROR, "PeerUnavailable"),)
