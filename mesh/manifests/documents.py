"""The documents a mesh understands, typed as the Kubernetes API has them.

Unknown fields are kept and never an error (clusters of another version write them); a known field of the wrong type always is.
An explicit null means the field is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

KSERVE = "serving.kserve.io/"
DEPLOYMENT_MODE = KSERVE + "deploymentMode"
SERVING_RUNTIME = KSERVE + "servingRuntime"
SECRET_KEY = KSERVE + "secretKey"
SCHEMA_PATH = KSERVE + "schemaPath"
FRAMEWORKS = ("xgboost", "lightgbm", "sklearn", "tensorflow", "onnx", "pytorch", "triton", "pmml")
"""The older one-block-per-framework fields, in the order ModelMesh looks for them (reference D.2)."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


def _dns_name(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError("must be lower-case letters, digits, '-' and '.', at most 253, with a letter or digit at both ends")
    return name


Name = Annotated[str, AfterValidator(_dns_name)]
Strings = dict[str, str]


class Part(BaseModel):
    """Any object of a document."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Metadata(Part):
    """Name and labels; the name must be one that Kubernetes takes."""

    name: Name
    namespace: Name | None = None
    labels: Strings = {}
    annotations: Strings = {}


class Document(Part):
    """What all kinds share."""

    api: ClassVar[str]
    api_version: str
    kind: str
    metadata: Metadata

    @property
    def name(self) -> str:
        """The name in its metadata."""
        return self.metadata.name


class ModelFormat(Part):
    """Format of a model, e.g. sklearn, with an optional version such as "0"."""

    name: str
    version: str | None = None


class Storage(Part):
    """Where an InferenceService's model lies: a path below what key and parameters name."""

    path: str | None = None
    schema_path: str | None = None
    parameters: Strings | None = None
    key: str | None = None


class Framework(Part):
    """The older block named for its framework."""

    storage_uri: str | None = None
    storage: Storage | None = None
    protocol_version: str | None = None


class Model(Framework):
    """The predictor's `model`."""

    model_format: ModelFormat
    runtime: str | None = None


class PredictorBlock(Part):
    """The predictor of an InferenceService: one `model`, or one older framework block; replicas are copies here.

    Attributes:
        canary_traffic_percent: so many of a hundred calls go to this predictor's model, the others to that of the document before.
    """

    model: Model | None = None
    xgboost: Framework | None = None
    lightgbm: Framework | None = None
    sklearn: Framework | None = None
    tensorflow: Framework | None = None
    onnx: Framework | None = None
    pytorch: Framework | None = None
    triton: Framework | None = None
    pmml: Framework | None = None
    service_account_name: str | None = None
    min_replicas: int | None = Field(default=None, ge=0)
    max_replicas: int | None = Field(default=None, ge=0)
    canary_traffic_percent: int | None = Field(default=None, ge=0, le=100)


class InferenceServiceSpec(Part):
    """Of transformers and explainers nothing is read here."""

    predictor: PredictorBlock


class InferenceService(Document):
    """One model under one name, as users of KServe write it."""

    api = KSERVE + "v1beta1"
    kind: Literal["InferenceService"]
    spec: InferenceServiceSpec


class S3Storage(Part):
    """Storage in the form before keys and parameters."""

    secret_key: str
    bucket: str | None = None


class PredictorStorage(Storage):
    """Storage of a Predictor."""

    persistent_volume_claim: dict[str, Any] | None = None
    s3: S3Storage | None = None


class RuntimeRef(Part):
    """Names a runtime."""

    name: str


class PredictorFields(Part):
    """The spec of a Predictor."""

    service_account_name: str | None = None
    model_type: ModelFormat
    path: str | None = None
    schema_path: str | None = None
    storage: PredictorStorage | None = None
    gpu: str | None = None
    runtime: RuntimeRef | None = None
    protocol_version: str | None = None


class Predictor(Document):
    """The older kind for one model."""

    api = KSERVE + "v1alpha1"
    kind: Literal["Predictor"]
    spec: PredictorFields


class SupportedFormat(ModelFormat):
    """A format that a runtime loads; without autoSelect only services that name the runtime get it."""

    auto_select: bool = False


class EnvVar(Part):
    """A variable; one with `valueFrom` has no value here."""

    name: str
    value: str = ""
    value_from: dict[str, Any] | None = None


class Resources(Part):
    """Quantities such as 500m or 1Gi; a bare number may stand without quotes."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class ContainerPort(Part):
    """A port that a container names; only its clashes with the mesh's own are of interest."""

    name: str = ""
    container_port: int = 0


class Container(Part):
    """A container of a runtime; `command` and `args` are what an image's entry point and its arguments are replaced by."""

    name: str
    image: str = ""
    command: tuple[str, ...] = Field(default=(), strict=False)
    args: tuple[str, ...] = Field(default=(), strict=False)
    ports: tuple[ContainerPort, ...] = Field(default=(), strict=False)
    readiness_probe: dict[str, Any] | None = None
    lifecycle: dict[str, Any] | None = None
    env: tuple[EnvVar, ...] = Field(default=(), strict=False)
    resources: Resources = Resources()


class BuiltInAdapter(Part):
    """The adapter between the router and a model server."""

    server_type: str
    runtime_management_port: int = 0
    mem_buffer_bytes: int = Field(default=0, ge=0)
    model_loading_timeout_millis: int = Field(default=0, ge=0)
    env: tuple[EnvVar, ...] = Field(default=(), strict=False)


class StorageHelper(Part):
    """What fetches models in front of a runtime that has no built-in adapter."""

    disabled: bool = False


class Volume(Part):
    """A volume of a pod; only its name is of interest."""

    name: str


class ServingRuntimeSpec(Part):
    """What a runtime serves and how it is run."""

    supported_model_formats: tuple[SupportedFormat, ...] = Field(default=(), strict=False)
    protocol_versions: tuple[str, ...] = Field(default=(), strict=False)
    multi_model: bool = False
    disabled: bool = False
    grpc_endpoint: str | None = None
    grpc_data_endpoint: str | None = None
    replicas: int | None = Field(default=None, ge=0, le=65535)
    containers: tuple[Container, ...] = Field(default=(), strict=False)
    built_in_adapter: BuiltInAdapter | None = None
    storage_helper: StorageHelper = StorageHelper()
    volumes: tuple[Volume, ...] = Field(default=(), strict=False)


class ServingRuntime(Document):
    """A model server that services of its namespace may use."""

    api = KSERVE + "v1alpha1"
    kind: Literal["ServingRuntime"]
    spec: ServingRuntimeSpec


class ClusterServingRuntime(Document):
    """The same for every namespace; a ServingRuntime of the same name goes before it."""

    api = KSERVE + "v1alpha1"
    kind: Literal["ClusterServingRuntime"]
    spec: ServingRuntimeSpec


class PersistentVolumeClaim(Document):
    """A volume that holds models."""

    api = "v1"
    kind: Literal["PersistentVolumeClaim"]
    spec: dict[str, Any] = {}


class Secret(Document):
    """The Secret `storage-config`: one JSON text per storage key."""

    api = "v1"
    kind: Literal["Secret"]
    data: Strings = {}
    string_data: Strings = {}


class TrafficPolicy(Document):
    """Which version of a service a call goes to; `mesh.core.traffic.reading` has the fields of its spec, beside `service`."""

    api = "mesh.kserve.io/v1alpha1"
    kind: Literal["TrafficPolicy"]
    spec: dict[str, Any] = {}

    @property
    def service(self) -> str:
        """The service whose calls it shares: that of its name unless it says otherwise."""
        return str(self.spec.get("service", self.name))

    @property
    def policy(self) -> dict[str, Any]:
        """What routers are told."""
        return {name: value for name, value in self.spec.items() if name != "service"}


AnyDocument: TypeAlias = (
    InferenceService | Predictor | ServingRuntime | ClusterServingRuntime | PersistentVolumeClaim | Secret | TrafficPolicy
)
AnyRuntime: TypeAlias = ServingRuntime | ClusterServingRuntime
KINDS: Mapping[str, type[Document]] = {
    kind.__name__: kind
    for kind in (InferenceService, Predictor, ServingRuntime, ClusterServingRuntime, PersistentVolumeClaim, Secret, TrafficPolicy)
}
