"""TLS with the pod that has a model: the lane shows what pods show each other, and believes whom pods believe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lane import built
from tests.lane.conftest import Pod, a_lane
from tests.lane.test_tls import Identity, shown
from tests.support.certificates import Authority
from tests.support.client import answer
from tests.support.mesh import Mesh

if TYPE_CHECKING:
    import mesh_lane

NAME = "localhost"
HOLDER = "holder"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pods"), "pods")


def known(identity: Identity, trust: Path, name: str = NAME) -> mesh_lane.PeerTls:
    module = built.load()
    if module is None:
        pytest.skip("the express lane is not compiled: `make lane` does it where cargo is")
    key, cert = identity
    made: mesh_lane.PeerTls = module.PeerTls(key.read_bytes(), cert.read_bytes(), trust.read_bytes(), name)
    return made


@contextmanager
def two(mesh: Mesh, model: str, peer_tls: mesh_lane.PeerTls | None, tls: mesh_lane.Tls | None) -> Iterator[Pod]:
    """A lane that has a model at another one, whose port for pods it calls."""
    with a_lane(mesh, workers=1, peer_tls=peer_tls) as pod, a_lane(mesh, workers=1, me=HOLDER, tls_of_peers=tls) as holder:
        holder.resident(model)
        peer = pod.lane.peer(HOLDER)
        peer.moved(holder.lane.listen("peers", "127.0.0.1:0", mesh.router.address))
        pod.published(models=[(model, [peer.copy(tried=f"{HOLDER}@1")])])
        yield pod


def calls(pod: Pod, model: str) -> int:
    """Calls of a model that the lane answered itself, after one that somebody answered."""
    assert pod.client.said(model) == answer(model)
    return sum(count for name, _, _, _, (count, *_), *_ in pod.lane.collect() if name == model)


@pytest.fixture
def model(mesh: Mesh, model: str) -> str:
    """One that also the Python door can serve."""
    return mesh.client.loaded(model)


def test_pods_with_one_certificate_believe_it(mesh: Mesh, authority: Authority, model: str) -> None:
    """Nobody trusts who signed it."""
    one = authority.issue("one")
    with two(mesh, model, known(one, one[1]), shown(one, "REQUIRE", one[1])) as pod:
        assert calls(pod, model) == 1


def test_pods_with_certificates_of_their_own_believe_their_authority(mesh: Mesh, authority: Authority, model: str) -> None:
    peer_tls = known(authority.issue("first"), authority.certificate)
    with two(mesh, model, peer_tls, shown(authority.issue("second"), "REQUIRE", authority.certificate)) as pod:
        assert calls(pod, model) == 1
        other = authority.issue("third")
        peer_tls.replace(other[0].read_bytes(), other[1].read_bytes(), authority.certificate.read_bytes(), NAME)
        assert calls(pod, model) == 1
        with pytest.raises(ValueError, match="trust"):
            peer_tls.replace(other[0].read_bytes(), other[1].read_bytes(), b"", NAME)


def test_calls_of_pods_that_do_not_believe_each_other_are_the_doors(mesh: Mesh, authority: Authority, model: str, tmp_path: Path) -> None:
    one, stranger = authority.issue("known"), Authority(tmp_path, "strangers")
    other, named = stranger.issue("stranger"), authority.issue("named", names="DNS:elsewhere")
    right = known(one, authority.certificate)
    for peer_tls, tls in (
        (right, shown(other, "REQUIRE", authority.certificate)),
        (known(other, authority.certificate), shown(one, "REQUIRE", authority.certificate)),
        (right, shown(named, "REQUIRE", authority.certificate)),
        (right, None),
        (None, shown(one)),
    ):
        with two(mesh, model, peer_tls, tls) as pod:
            assert calls(pod, model) == 0


@pytest.mark.parametrize(("name", "text"), [("", "name"), ("not a name", "name")])
def test_a_name_that_no_certificate_has_is_refused(authority: Authority, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        known(authority.issue("nameless"), authority.certificate, name)
