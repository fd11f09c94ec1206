"""Every setting of the router, declared once: environment names (ModelMesh's where it had one), default, unit, meaning.

Command-line help and the reference page `docs/settings.md` are generated from here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mesh.core.errors import Malformed
from mesh.settings_text import described, fault
from mesh.settings_text import from_env as _env

Port = Annotated[int, Field(ge=0, le=65535)]
Millis = Annotated[int, Field(ge=0)]
ClientAuth = Literal["NONE", "OPTIONAL", "REQUIRE"]


class Settings(BaseSettings):
    """Settings of one router; reading them is `Settings.load()`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)

    # Identity
    service_name: str = _env(
        "MM_SERVICE_NAME", "TAS_SERVICE_NAME", default="", meaning="name of the mesh that this pod belongs to; required"
    )
    pod_name: str = _env("WKUBE_POD_NAME", "HOSTNAME", default="", meaning="name of the pod; its last 12 characters are the instance id")
    pod_address: str = _env("WKUBE_POD_IPADDR", default="127.0.0.1", meaning="address under which other pods reach this one")
    location: str = _env("MM_LOCATION", "WKUBE_NODE_IP", default="", meaning="node of the pod, published in its record")
    zone: str = _env("MM_ZONE", default="", meaning="zone of the pod, published in its record")
    labels: Annotated[tuple[str, ...], NoDecode] = _env(
        "MM_LABELS", default=(), meaning="labels that type constraints ask for", unit="comma-separated"
    )

    version: str = _env(
        "SERVICE_VERSION",
        default="",
        meaning="build of this pod, as NAME-YYYYMMDD-N or YYYYMMDD-HHMM[-N]: newer pods are preferred; unset means what the file says",
    )
    version_file: Path = _env("MESH_BUILD_VERSION_FILE", default=Path("build-version"), meaning="file that has the same, if it exists")

    # Doors
    bind: str = _env("MESH_BIND_ADDRESS", default="0.0.0.0", meaning="address that the doors bind")
    grpc_port: Port = _env("MM_SVC_GRPC_PORT", "TAS_SVC_GRPC_PORT", default=8033, meaning="gRPC: inference and management")
    rest_port: Port = _env("REST_PROXY_LISTEN_PORT", default=8008, meaning="REST inference")
    shared_grpc_port: Port | None = _env(
        "MESH_SHARED_GRPC_PORT",
        default=None,
        meaning="a further gRPC port, which several routers of one machine listen on together; unset means none",
    )
    shared_rest_port: Port | None = _env(
        "MESH_SHARED_REST_PORT",
        default=None,
        meaning="a further REST port, which several routers of one machine listen on together; unset means none",
    )
    peer_port: Port = _env("MESH_PEER_PORT", default=8080, meaning="calls between pods")
    lane: Literal["auto", "off"] = _env(
        "MESH_LANE", default="auto", meaning="auto: the express lane takes calls if it is built and can; off: it does not"
    )
    probe_port: Port | None = _env("MM_PROBE_PORT", default=8089, meaning="HTTP /ready and /live; NONE switches it off")
    prestop_port: Port = _env("MM_PRESTOP_WAIT_PORT", default=8090, meaning="HTTP /prestop, for the hooks of runtime containers")
    max_message: Annotated[int, Field(ge=1)] = _env(
        "MM_SVC_GRPC_MAX_MSG_SIZE", default=16_777_216, meaning="largest message taken from clients and from the runtime", unit="bytes"
    )
    max_headers: int = _env(
        "MM_SVC_GRPC_MAX_HEADERS_SIZE", default=-1, meaning="largest metadata of a call; -1 is gRPC's default of 8 KiB", unit="bytes"
    )
    max_connection_age: int = _env(
        "MM_SVC_GRPC_MAX_CONNECTION_AGE_SECS", default=0, meaning="clients reconnect after this; 0 is never", unit="s"
    )
    max_connection_age_grace: int = _env(
        "MM_SVC_GRPC_MAX_CONNECTION_AGE_GRACE_SECS", default=0, meaning="time for calls on an aged connection; 0 is unlimited", unit="s"
    )

    # TLS
    tls_key: Path | None = _env(
        "MM_TLS_PRIVATE_KEY_PATH",
        "MM_SVC_GRPC_PRIVATE_KEY_PATH",
        "TAS_SVC_GRPC_PRIVATE_KEY_PATH",
        default=None,
        meaning="PEM key; switches TLS on for gRPC and REST",
    )
    tls_passphrase: str | None = _env(
        "MM_TLS_PRIVATE_KEY_PASSPHRASE", "MM_SVC_GRPC_PRIVATE_KEY_PASSPHRASE", default=None, meaning="passphrase of the key"
    )
    tls_cert: Path | None = _env(
        "MM_TLS_KEY_CERT_PATH",
        "MM_SVC_GRPC_CA_CERT_PATH",
        "TAS_SVC_GRPC_CA_CERT_PATH",
        default=None,
        meaning="PEM certificate chain of the key",
    )
    tls_client_auth: ClientAuth = _env(
        "MM_TLS_CLIENT_AUTH", default="NONE", meaning="whether clients show a certificate: NONE, OPTIONAL or REQUIRE"
    )
    tls_trust: Annotated[tuple[Path, ...], NoDecode] = _env(
        "MM_TLS_TRUST_CERT_PATH",
        default=(),
        meaning="PEM files that client certificates are checked with; unset means the system's",
        unit="comma-separated",
    )
    peer_tls: bool = _env("MM_ENABLE_SSL", default=True, meaning="with a TLS key, pods talk TLS to each other; false: plaintext")
    peer_client_auth: bool = _env(
        "MM_INTRACLUSTER_CLIENTAUTH", default=True, meaning="a pod that calls another shows its certificate; false: it need not"
    )
    peer_trust: Annotated[tuple[Path, ...], NoDecode] = _env(
        "MM_INTERNAL_TRUST_CERTS",
        "MM_TRUST_CERTS",
        default=(),
        meaning="PEM files, or folders of .pem and .crt files, that pods trust beside their own certificate chain and the cluster's",
        unit="comma-separated",
    )

    # Runtime
    runtime_port: Port | None = _env(
        "INTERNAL_GRPC_PORT",
        default=None,
        meaning="port of the runtime's management interface; with no socket either, 8085 and /tmp/mmesh/grpc.sock are tried",
    )
    runtime_socket: Path | None = _env(
        "INTERNAL_GRPC_SOCKET_PATH", default=None, meaning="Unix socket of the runtime's management interface"
    )
    serving_port: Port | None = _env(
        "INTERNAL_SERVING_GRPC_PORT", default=None, meaning="port of the runtime's inference interface; unset means the management one"
    )
    serving_socket: Path | None = _env(
        "INTERNAL_SERVING_GRPC_SOCKET_PATH", default=None, meaning="Unix socket of the runtime's inference interface"
    )
    runtime_start_timeout: int = _env("MESH_RUNTIME_START_TIMEOUT", default=180, meaning="wait for the runtime to be ready", unit="s")

    memory_interval: Millis = _env(
        "MESH_RUNTIME_MEMORY_INTERVAL_MS",
        default=10_000,
        meaning="how often the memory that the model server really holds is looked at, if its adapter tells it; 0 is never",
        unit="ms",
    )
    recycle_runtime: Annotated[str, Field(pattern=r"^([1-9][0-9]*%?)?$")] = _env(
        "MESH_RECYCLE_RUNTIME",
        default="",
        meaning="a model server that leaks is ended and begins anew, with its models served meanwhile, when it holds more than this that "
        "nothing uses: bytes, or a part of the capacity for models as 20%; unset means never",
    )

    # Registry
    kv_store: str = _env(
        "KV_STORE", default="", meaning="etcd:<file or endpoints>; unset means a registry in memory, for a mesh of one pod"
    )
    kv_prefix: str = _env("MM_KVSTORE_PREFIX", default="tas-runtime", meaning="first part of the registry's keys")
    kv_read_only: bool = _env(
        "KV_READ_ONLY",
        default=False,
        meaning="pods change nothing in the registry but their own copies, as while it moves to another store",
    )
    lease: Annotated[int, Field(ge=1)] = _env(
        "MESH_LEASE_TTL", default=25, meaning="the records of a pod that crashed, or is cut off, go from etcd after this", unit="s"
    )
    snapshot: Path | None = _env(
        "MESH_SNAPSHOT_PATH",
        default=None,
        meaning="file in which the pod keeps what it knows of the registry, and from which it starts while etcd is away; unset: none",
    )
    snapshot_every: Annotated[float, Field(gt=0)] = _env(
        "MESH_SNAPSHOT_EVERY", default=30.0, meaning="it is written at most so often, with many models less often, and at the end", unit="s"
    )

    # Requests
    dataplane_config: str = _env(
        "MM_DATAPLANE_CONFIG", default="", meaning="JSON: where methods carry the model id, and whether others are allowed"
    )
    dataplane_config_path: Path | None = _env(
        "MM_DATAPLANE_CONFIG_PATH", default=None, meaning="file of the same, read again when it changes"
    )
    type_constraints: str = _env("MM_TYPE_CONSTRAINTS", default="", meaning="JSON: labels that a pod needs for a model type")
    type_constraints_path: Path | None = _env(
        "MM_TYPE_CONSTRAINTS_PATH", default=None, meaning="file of the same, read again when it changes"
    )
    multi_parallelism: Annotated[int, Field(ge=1)] = _env(
        "MM_MULTI_PARALLELISM", default=4, meaning="parallel parts of a call that names several models"
    )
    max_calls: Annotated[int, Field(ge=1)] = _env(
        "MESH_MAX_CALLS", default=4096, meaning="calls in progress; beyond it calls end with RESOURCE_EXHAUSTED"
    )
    max_held: Annotated[int, Field(ge=0)] = _env(
        "MESH_MAX_HELD_BYTES",
        default=268_435_456,
        meaning="request bytes kept for calls that wait; beyond it calls end with RESOURCE_EXHAUSTED",
        unit="bytes",
    )
    drain_limit: Millis = _env("MESH_DRAIN_LIMIT", default=120_000, meaning="a call on a leaving copy may last this long", unit="ms")
    load_failure_expiry: Millis = _env(
        "MM_LOAD_FAILURE_EXPIRY_TIME_MS", default=900_000, meaning="a failed load is remembered this long", unit="ms"
    )
    max_inflight_per_copy: int = _env(
        "MM_MAX_INFLIGHT_PER_MODEL_COPY",
        default=0,
        meaning="calls running and queued on one copy if the runtime limits concurrency; 0: max(16, 8 x limit), < 0: no limit",
    )
    scaleup_rpm: Annotated[int, Field(ge=10)] = _env(
        "MM_SCALEUP_RPM_THRESHOLD",
        default=2000,
        meaning="calls a minute to one copy at which another one is loaded; config/scaleup_rpm_threshold in the registry goes before it",
    )
    scaleup_bandwidth: Annotated[int, Field(ge=10, le=200)] = _env(
        "MM_CONC_SCALEUP_BANDWIDTH_PCT",
        default=90,
        meaning="if the runtime limits concurrency: part of the calls that a copy can take at which another one is loaded",
        unit="%",
    )
    rate_interval: Annotated[int, Field(ge=50)] = _env(
        "MESH_RATE_INTERVAL_MS", default=10_000, meaning="how often calls are counted to see whether more copies are wanted", unit="ms"
    )
    janitor_interval: Annotated[int, Field(ge=50)] = _env(
        "MESH_JANITOR_INTERVAL_MS",
        default=360_000,
        meaning="how often a pod looks over its copies: which are not needed any more, and what records say wrongly of it",
        unit="ms",
    )
    proactive_interval: Millis = _env(
        "MESH_PROACTIVE_INTERVAL_MS",
        default=420_000,
        meaning="how often the pod that leads has models loaded into half of the free space before they are called; 0 is never",
        unit="ms",
    )
    second_copy_least: Millis = _env(
        "MESH_SECOND_COPY_MIN_AGE_MS",
        default=420_000,
        meaning="a model that is used again after at least this long gets a second copy",
        unit="ms",
    )
    second_copy_most: Millis = _env(
        "MESH_SECOND_COPY_MAX_AGE_MS",
        default=2_400_000,
        meaning="and after at most this long; a second copy unused for longer is given back",
        unit="ms",
    )
    calm: Millis = _env(
        "MESH_SCALEDOWN_AGE_MS",
        default=600_000,
        meaning="copies added for load stay for so long after it, and for three times as long after the last one was added",
        unit="ms",
    )
    default_alias_owner: str = _env("MM_DEFAULT_VMODEL_OWNER", default="", meaning="owner of aliases set without one")
    static_models: str = _env(
        "MM_AUTO_REGISTER_MODELS",
        "MM_AUTO_REGISTER_MODEL",
        default="",
        meaning="JSON list of models to register at the start: modelId, modelInfo, vModelId, retainAfterTransition, ensureLoaded",
    )
    static_models_path: Path | None = _env(
        "MM_AUTO_REGISTER_MODELS_PATH", "MM_AUTO_REGISTER_MODEL_PATH", default=None, meaning="file of the same; both may be given"
    )

    # How many pods are wanted
    pods_age: Annotated[int, Field(ge=1)] = _env(
        "MESH_PODS_AGE",
        default=1_800_000,
        meaning="more pods are wanted if a full cache keeps a model without a call for less than this",
        unit="ms",
    )
    pods_rpm: Annotated[int, Field(ge=1)] = _env(
        "MESH_PODS_RPM", default=8_000, meaning="more pods are wanted if each has more calls a minute than this"
    )
    pods_calls: Annotated[float, Field(ge=0.01)] = _env(
        "MESH_PODS_CALLS", default=8.0, meaning="more pods are wanted if more calls than this run on each at a time, on average"
    )
    pods_settle: Annotated[int, Field(ge=1)] = _env(
        "MESH_PODS_SETTLE", default=120_000, meaning="after pods came or went no more are wanted for so long", unit="ms"
    )
    pods_calm: Annotated[int, Field(ge=1)] = _env(
        "MESH_PODS_CALM", default=1_800_000, meaning="one fewer pod is wanted when it would have done for so long", unit="ms"
    )

    # Telemetry
    metrics: str = _env(
        "MM_METRICS",
        default="prometheus:port=2112;scheme=http",
        meaning="<type>[:p1=v1;p2=v2]: prometheus (port, scheme, per_model_metrics, fq_names), statsd (port, fq_names, legacy) or disabled",
    )
    info_metrics: str = _env(
        "MM_INFO_METRICS", default="", meaning="<name>;label=ENV,...: a constant gauge with labels from the environment"
    )
    max_series: Annotated[int, Field(ge=1)] = _env(
        "MESH_MAX_PER_MODEL_SERIES",
        default=10_000,
        meaning="series of models with per_model_metrics=true, all histograms together; beyond it the one longest unused goes",
    )
    log_scrapes: bool = _env("MM_LOG_PROMETHEUS_REQS", default=False, meaning="a line in the log for each scrape of the metrics")
    log_each_invoke: bool = _env("MM_LOG_EACH_INVOKE", default=False, meaning="a line in the log for each call of the runtime")
    log_request_headers: str = _env(
        "MM_LOG_REQUEST_HEADERS", default="", meaning="JSON: header to log key, added to the lines of its request"
    )
    payload_processors: str = _env(
        "MM_PAYLOAD_PROCESSORS",
        default="",
        meaning="who is told of requests and responses: logger, http(s), or cloudevents+http(s) URIs; ?model#method restricts one",
        unit="separated by spaces",
    )
    payload_threads: Annotated[int, Field(ge=1, le=64)] = _env(
        "MM_PAYLOAD_PROCESSORS_THREADS", default=2, meaning="payloads processed at a time"
    )
    payload_capacity: Annotated[int, Field(ge=1)] = _env(
        "MM_PAYLOAD_PROCESSORS_CAPACITY", default=64, meaning="payloads that wait to be processed; beyond it they are dropped, and counted"
    )
    log_level: str = _env("MESH_LOG_LEVEL", default="INFO", meaning="DEBUG, INFO, WARNING or ERROR")

    # Life
    start_timeout: Annotated[int, Field(ge=1)] = _env(
        "MESH_START_TIMEOUT", default=360, meaning="a start that takes longer fails, loads of models that it waits for included", unit="s"
    )
    fail_fast: bool = _env(
        "MM_FAILFAST_UPGRADE_ENABLED",
        default=True,
        meaning="a new pod on which too many loads fail is never ready again, which halts a rollout",
    )
    probation: Millis = _env(
        "BOOTSTRAP_CLEARANCE_PERIOD_MS",
        default=180_000,
        meaning="for so long after its start a pod's loads are judged like that",
        unit="ms",
    )
    shutdown_timeout: Millis = _env(
        "SHUTDOWN_TIMEOUT_MS", default=30_000, meaning="the process ends this long after it was asked to", unit="ms"
    )
    termination_log: Path = _env(
        "LL_TERMINATION_MSG_PATH",
        default=Path("/dev/termination-log"),
        meaning="file that takes the reason of a failed start, if it can be written",
    )

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Reads the environment.

        Raises:
            Malformed: names each variable, its value's fault, and what it means.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise Malformed("\n".join(fault(item, describe()) for item in error.errors())) from None

    @field_validator("labels", "tls_trust", "peer_trust", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return sorted(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("probe_port", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.strip().upper() == "NONE" else value

    @field_validator("tls_client_auth", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() or "NONE" if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        def both(one: object, other: object, names: str) -> None:
            if one and other:
                raise ValueError(f"only one of {names} can be set")

        both(self.runtime_port, self.runtime_socket, "INTERNAL_GRPC_PORT and INTERNAL_GRPC_SOCKET_PATH")
        both(self.serving_port, self.serving_socket, "INTERNAL_SERVING_GRPC_PORT and INTERNAL_SERVING_GRPC_SOCKET_PATH")
        both(self.dataplane_config, self.dataplane_config_path, "MM_DATAPLANE_CONFIG and MM_DATAPLANE_CONFIG_PATH")
        both(self.type_constraints, self.type_constraints_path, "MM_TYPE_CONSTRAINTS and MM_TYPE_CONSTRAINTS_PATH")
        if bool(self.tls_key) != bool(self.tls_cert):
            raise ValueError("MM_TLS_PRIVATE_KEY_PATH and MM_TLS_KEY_CERT_PATH go together; only one is set")
        if self.second_copy_least > self.second_copy_most:
            raise ValueError("MESH_SECOND_COPY_MIN_AGE_MS is greater than MESH_SECOND_COPY_MAX_AGE_MS: no model would get a second copy")
        if self.tls_client_auth != "NONE" and not self.tls_key:
            raise ValueError("MM_TLS_CLIENT_AUTH needs MM_TLS_PRIVATE_KEY_PATH and MM_TLS_KEY_CERT_PATH")
        if self.kv_read_only and not self.kv_store:
            raise ValueError("KV_READ_ONLY needs KV_STORE: a registry in memory would stay empty")
        if self.recycle_runtime and not self.memory_interval:
            raise ValueError("MESH_RECYCLE_RUNTIME needs MESH_RUNTIME_MEMORY_INTERVAL_MS above 0: what is not measured is not recycled")
        if "/" in self.service_name:
            raise ValueError("MM_SERVICE_NAME must not contain '/'")
        return self

    @property
    def instance_id(self) -> str:
        """The last 12 characters of the pod's name, as ModelMesh publishes it."""
        return self.pod_name[-12:] or f"pod-{os.getpid()}"


def termination_log() -> Path:
    """Where the reason of a failed start goes, even if the settings themselves are the reason."""
    return Path(os.environ.get("LL_TERMINATION_MSG_PATH", Settings.model_fields["termination_log"].default))


def describe() -> list[dict[str, Any]]:
    """Every setting in order: `names` (first is current, others are old spellings), `default`, `unit`, `meaning`."""
    return described(Settings.model_fields)
