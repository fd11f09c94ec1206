"""An etcd is reached with a password, over TLS, by name; one that is not says what is wrong and what to do, at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from mesh.core.errors import Malformed, StoreUnavailable
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.store.etcd import EtcdRegistry, open_etcd
from tests.integration.etcd.server import Etcd, Way, settings
from tests.support import ports
from tests.support.certificates import Authority
from tests.support.waiting import until_async
from tests.unit.store.edits import Count, create
from tests.unit.store.stores import eventually

A = ModelId("a")


@asynccontextmanager
async def opened(kv_store: str) -> AsyncIterator[EtcdRegistry]:
    registry = await open_etcd(settings(kv_store))
    try:
        yield registry
    finally:
        await registry.close()


async def fault(kv_store: str) -> str:
    """Why that etcd is not reached; it is said within five seconds."""
    with pytest.raises(StoreUnavailable) as error:
        async with asyncio.timeout(5), opened(kv_store):
            pass
    assert error.value.message.startswith("Problem connecting to etcd: ")
    return error.value.message


def write(folder: Path, **keys: object) -> str:
    """KV_STORE with a file of these keys."""
    file = folder / "etcd.json"
    file.write_text(json.dumps(keys))
    return f"etcd:{file}"


async def test_nobody_listens() -> None:
    (port,) = ports.free()
    message = await fault(f"etcd:127.0.0.1:{port}")
    assert f"etcd at 127.0.0.1:{port} (KV_STORE=etcd:127.0.0.1:{port}) does not answer" in message
    assert "Connection refused" in message
    assert "check that it runs" in message


async def test_somebody_listens_and_is_silent(etcd: Etcd) -> None:
    async with Way(etcd.port) as way:
        way.lose("answers")
        assert "does not answer" in await fault(f"etcd:127.0.0.1:{way.port}")


async def test_a_host_that_has_no_address() -> None:
    message = await fault("etcd:no-such-host.invalid:2379")
    assert "no-such-host.invalid:2379" in message
    assert "does not answer" in message


async def test_the_first_of_several_is_down(etcd: Etcd) -> None:
    (port,) = ports.free()
    async with opened(f"etcd:127.0.0.1:{port},{etcd.address}") as registry:
        assert await registry.change(create("a")) is None


async def test_a_name_and_a_root(etcd: Etcd) -> None:
    async with opened(f"etcd:http://localhost:{etcd.port};rootPrefix=the/root") as registry:
        assert await registry.change(create("a")) is None
    assert etcd.get("the/root/mm/mesh/registry/a")


async def test_the_service_must_have_a_name(etcd: Etcd) -> None:
    with pytest.raises(Malformed, match="MM_SERVICE_NAME"):
        await open_etcd(settings(f"etcd:{etcd.address}", ""))


class Guarded(NamedTuple):
    """An etcd that wants a user, and who may do what."""

    etcd: Etcd
    folder: Path

    def kv_store(self, user: str, password: str) -> str:
        return write(self.folder, endpoints=self.etcd.address, userid=user, password=password, root_prefix="/root")


@pytest.fixture
def guarded(own_etcd: Etcd, tmp_path: Path) -> Guarded:
    own_etcd.ctl("user", "add", "root:top")
    own_etcd.ctl("user", "grant-role", "root", "root")
    own_etcd.ctl("user", "add", "mesh:secret")
    own_etcd.ctl("user", "add", "nobody:secret")
    own_etcd.ctl("role", "add", "mesh")
    own_etcd.ctl("role", "grant-permission", "mesh", "--prefix=true", "readwrite", "/root/")
    own_etcd.ctl("user", "grant-role", "mesh", "mesh")
    own_etcd.ctl("auth", "enable")
    own_etcd.client.append("--user=root:top")
    return Guarded(own_etcd, tmp_path)


async def test_a_user_with_the_right_password(guarded: Guarded) -> None:
    async with opened(guarded.kv_store("mesh", "secret")) as registry:
        assert await registry.change(create("a")) is None
        await registry.publish(PodId("pod"), InstanceRecord())
        await eventually(lambda: PodId("pod") in registry.instances)
        # A restart of etcd makes its tokens void.
        guarded.etcd.stop()
        guarded.etcd.start()
        assert await registry.change(Count("a")) is None
        await registry.publish(PodId("pod"), InstanceRecord(count=1))
        await eventually(lambda: registry.instances[PodId("pod")].count == 1)


async def test_the_wrong_password(guarded: Guarded) -> None:
    message = await fault(guarded.kv_store("mesh", "letmein"))
    assert "authentication failed, invalid user ID or password" in message
    assert "check userid ('mesh') and password" in message
    assert "etcd.json" in message
    assert "letmein" not in message


async def test_no_user_where_one_is_wanted(guarded: Guarded) -> None:
    assert "it wants a user; set userid and password" in await fault(f"etcd:{guarded.etcd.address};rootPrefix=/root")


async def test_a_user_who_may_nothing(guarded: Guarded) -> None:
    message = await fault(guarded.kv_store("nobody", "secret"))
    assert "permission denied" in message
    assert "grant user 'nobody' a role" in message


async def test_a_permission_that_is_withdrawn_and_given_back(guarded: Guarded) -> None:
    async with Way(guarded.etcd.port) as way:
        file = write(guarded.folder, endpoints=f"127.0.0.1:{way.port}", userid="mesh", password="secret", root_prefix="/root")
        async with opened(file) as registry, opened(guarded.kv_store("root", "top")) as other:
            guarded.etcd.ctl("user", "revoke-role", "mesh", "mesh")
            way.cut()
            with pytest.raises(StoreUnavailable, match="permission denied; grant user 'mesh' a role"):
                await registry.change(create("b"))
            await other.change(create("a"))
            guarded.etcd.ctl("user", "grant-role", "mesh", "mesh")
            await eventually(lambda: A in registry.models, "it follows again")
            assert await registry.change(Count("a")) is None


async def test_a_user_where_none_is_wanted(etcd: Etcd, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kv_store = write(tmp_path, endpoints=etcd.address, userid="mesh", password="secret", root_prefix="/other")
    async with opened(kv_store) as registry:
        assert await registry.change(create("a")) is None
        await registry.publish(PodId("pod"), InstanceRecord())
    assert "a user is configured, but etcd asks for none" in caplog.text


class Secured(NamedTuple):
    """An etcd that speaks TLS and wants certificates."""

    etcd: Etcd
    folder: Path
    authority: Authority


@pytest.fixture(scope="module")
def secured(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "etcd")
    key, certificate = authority.issue("server")
    client_key, client = authority.issue("client")
    trust = str(authority.certificate)
    flags = [f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={trust}", "--client-cert-auth"]
    etcd = Etcd(environment, folder, client=[f"--cacert={trust}", f"--cert={client}", f"--key={client_key}"], flags=flags, tls=True)
    etcd.start()
    yield Secured(etcd, folder, authority)
    etcd.stop()


PAPERS = {"certificate_file": "etcd.authority.pem", "client_key_file": "client.key", "client_certificate_file": "client.pem"}


@pytest.mark.parametrize("scheme", ["https://", ""], ids=["https", "none"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_certificates_beside_the_file(secured: Secured, scheme: str, host: str) -> None:
    async with opened(write(secured.folder, endpoints=f"{scheme}{host}:{secured.etcd.port}", **PAPERS)) as registry:
        assert await registry.change(create("a")) is None
        await registry.publish(PodId("pod"), InstanceRecord())


async def test_certificates_in_the_file_and_another_name(secured: Secured) -> None:
    inline = {name.removesuffix("_file"): (secured.folder / file).read_text() for name, file in PAPERS.items()}
    async with Way(secured.etcd.port) as way:
        kv_store = write(secured.folder, endpoints=f"127.0.0.1:{way.port}", override_authority="localhost", tls_mode="TLS", **inline)
        async with opened(kv_store) as registry:
            assert await registry.change(create("b")) is None


async def test_a_name_that_is_not_in_the_certificate(secured: Secured) -> None:
    kv_store = write(secured.folder, endpoints=secured.etcd.address, override_authority="elsewhere.example", **PAPERS)
    message = await fault(kv_store)
    assert "Hostname Verification Check failed" in message
    assert "set override_authority" in message


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"certificate_file"}, "set client_key_file and client_certificate_file"),
        ({"client_key_file", "client_certificate_file"}, "set certificate_file to that of its authority"),
    ],
    ids=["authority", "client"],
)
async def test_only_some_certificates(secured: Secured, given: set[str], advice: str) -> None:
    papers = {name: file for name, file in PAPERS.items() if name in given}
    assert advice in await fault(write(secured.folder, endpoints=f"https://{secured.etcd.address}", **papers))


async def test_plaintext_to_one_that_wants_tls(secured: Secured) -> None:
    assert "whether it wants TLS" in await fault(f"etcd:{secured.etcd.address}")


async def test_tls_to_one_that_speaks_plaintext(etcd: Etcd) -> None:
    async def told() -> str:
        message = await fault(f"etcd:https://{etcd.address}")
        # Where no handshake came to an end in time nobody knows why yet; whoever asks again learns it.
        return "" if "Deadline Exceeded" in message else message

    assert "it does not speak TLS; use http://" in await until_async(told, "the end of a handshake")
