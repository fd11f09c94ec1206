"""A setting that makes no sense is named, with its value's fault and what it means."""

from __future__ import annotations

import os
import re
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Code, Malformed
from mesh.settings import Settings, describe

PORTS = [
    "MM_SVC_GRPC_PORT",
    "REST_PROXY_LISTEN_PORT",
    "MESH_PEER_PORT",
    "MM_PROBE_PORT",
    "MM_PRESTOP_WAIT_PORT",
    "INTERNAL_GRPC_PORT",
    "INTERNAL_SERVING_GRPC_PORT",
]
NUMBERS = [
    "MM_SVC_GRPC_MAX_MSG_SIZE",
    "MM_SVC_GRPC_MAX_HEADERS_SIZE",
    "MM_SVC_GRPC_MAX_CONNECTION_AGE_SECS",
    "MM_SVC_GRPC_MAX_CONNECTION_AGE_GRACE_SECS",
    "MESH_RUNTIME_START_TIMEOUT",
    "MM_MULTI_PARALLELISM",
    "MESH_MAX_CALLS",
    "MESH_MAX_HELD_BYTES",
    "MESH_DRAIN_LIMIT",
    "MM_LOAD_FAILURE_EXPIRY_TIME_MS",
    "MM_MAX_INFLIGHT_PER_MODEL_COPY",
    "SHUTDOWN_TIMEOUT_MS",
]


def read(**environment: str) -> Settings:
    """The settings of an environment."""
    with patch.dict(os.environ, environment):
        return Settings.load()


def fault(**environment: str) -> str:
    """What is said of an environment that makes no sense."""
    with pytest.raises(Malformed) as caught:
        read(**environment)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("value", ["http", "-1", "65536", "80.5"])
def test_a_port_is_a_number_that_a_port_can_have(name: str, value: str) -> None:
    assert fault(**{name: value}).startswith(f'{name}="{value}": ')


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["many", "1e3", "1s"])
def test_a_number_is_a_number(name: str, value: str) -> None:
    assert fault(**{name: value}).startswith(f'{name}="{value}": ')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MM_MULTI_PARALLELISM", "0"),
        ("MESH_MAX_CALLS", "0"),
        ("MESH_MAX_HELD_BYTES", "-1"),
        ("MESH_DRAIN_LIMIT", "-1"),
        ("MM_LOAD_FAILURE_EXPIRY_TIME_MS", "-1"),
        ("SHUTDOWN_TIMEOUT_MS", "-1"),
    ],
)
def test_a_number_below_its_least_is_refused(name: str, value: str) -> None:
    assert re.match(f'{name}="{value}": .* greater than or equal to ', fault(**{name: value}))


def test_what_is_neither_yes_nor_no_is_refused() -> None:
    assert fault(MM_LOG_EACH_INVOKE="perhaps").startswith('MM_LOG_EACH_INVOKE="perhaps": ')


def test_a_choice_lists_what_can_be_chosen() -> None:
    said = fault(MM_TLS_CLIENT_AUTH="maybe")
    assert said.startswith('MM_TLS_CLIENT_AUTH="MAYBE": ')
    assert all(choice in said for choice in ("NONE", "OPTIONAL", "REQUIRE"))


@pytest.mark.parametrize("name", [*PORTS, *NUMBERS, "MM_LOG_EACH_INVOKE"])
def test_a_fault_tells_what_the_setting_means(name: str) -> None:
    meaning = next(setting["meaning"] for setting in describe() if name in setting["names"])
    assert fault(**{name: "?"}).endswith(f"({meaning})")


def test_each_of_several_faults_has_its_line() -> None:
    assert [line.split("=")[0] for line in fault(MESH_PEER_PORT="x", MESH_MAX_CALLS="y").splitlines()] == [
        "MESH_PEER_PORT",
        "MESH_MAX_CALLS",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("INTERNAL_GRPC_PORT", "8085"), ("INTERNAL_GRPC_SOCKET_PATH", "/tmp/a.sock")),
        (("INTERNAL_SERVING_GRPC_PORT", "8001"), ("INTERNAL_SERVING_GRPC_SOCKET_PATH", "/tmp/b.sock")),
        (("MM_DATAPLANE_CONFIG", "{}"), ("MM_DATAPLANE_CONFIG_PATH", "/etc/dataplane.json")),
        (("MM_TYPE_CONSTRAINTS", "{}"), ("MM_TYPE_CONSTRAINTS_PATH", "/etc/constraints.json")),
    ],
)
def test_of_two_ways_to_say_the_same_only_one_is_taken(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert fault(**dict([one, other])) == f"only one of {one[0]} and {other[0]} can be set"
    for alone in (one, other):
        read(**dict([alone]))


def test_key_and_certificate_go_together() -> None:
    text = "MM_TLS_PRIVATE_KEY_PATH and MM_TLS_KEY_CERT_PATH go together; only one is set"
    assert fault(MM_TLS_PRIVATE_KEY_PATH="/tls/key.pem") == text
    assert fault(MM_TLS_KEY_CERT_PATH="/tls/chain.pem") == text


@pytest.mark.parametrize("choice", ["OPTIONAL", "REQUIRE"])
def test_clients_show_certificates_only_to_a_server_with_one(choice: str) -> None:
    assert fault(MM_TLS_CLIENT_AUTH=choice) == "MM_TLS_CLIENT_AUTH needs MM_TLS_PRIVATE_KEY_PATH and MM_TLS_KEY_CERT_PATH"


@pytest.mark.parametrize("limit", ["500MiB", "20 %", "-1", "0", "0%", "1.5%"])
def test_a_limit_of_what_may_leak_is_bytes_or_a_percentage_and_the_fault_says_so(limit: str) -> None:
    said = fault(MESH_RECYCLE_RUNTIME=limit)
    assert said.startswith(f'MESH_RECYCLE_RUNTIME="{limit}": ')
    assert "bytes, or a part of the capacity for models as 20%; unset means never" in said


def test_what_is_not_measured_is_not_recycled() -> None:
    said = fault(MESH_RECYCLE_RUNTIME="20%", MESH_RUNTIME_MEMORY_INTERVAL_MS="0")
    assert said == "MESH_RECYCLE_RUNTIME needs MESH_RUNTIME_MEMORY_INTERVAL_MS above 0: what is not measured is not recycled"


def test_a_name_that_could_not_be_part_of_a_key_is_refused() -> None:
    assert fault(MM_SERVICE_NAME="mesh/one") == "MM_SERVICE_NAME must not contain '/'"


NAMES = [name for setting in describe() for name in setting["names"]]
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_any_environment_is_read_or_refused_with_a_reason(environment: dict[str, str]) -> None:
    said = ""
    try:
        read(**environment)
    except Malformed as error:
        said = error.message
    assert all(any(name in line for name in NAMES) for line in said.splitlines() if not line.startswith(" "))
