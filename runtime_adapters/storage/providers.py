"""From the parameters of a storage to the source that reads it, one function a type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from runtime_adapters.errors import InvalidRequest, NotConfigured
from runtime_adapters.storage.objects import Bucket
from runtime_adapters.storage.parameters import Parameters, optional, required
from runtime_adapters.storage.sources import Source, claim, local

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

RETRY: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""For answers of 5xx and broken connections; a load is tried again elsewhere by the router, so patience here is short."""
DEFAULT_REGION = "us-east-1"
"""What servers that know no regions expect in a signature."""


def source(parameters: Parameters, mounts: Path, key: str | None) -> Source:
    """The source that `parameters` describe; `key` is the storage key they come from, for messages.

    Raises:
        InvalidRequest: the type is not known, or a parameter is absent or of the wrong form.
        NotConfigured: the storage cannot be set up so.
    """
    kind = parameters["type"]
    origin = f" of storage key {key!r}" if key else ""
    try:
        match kind:
            case "pvc":
                return claim(parameters, mounts)
            case "local" | "file":
                return local(parameters)
            case "http" | "https":
                from runtime_adapters.storage.web import web  # an HTTP client is a third of what an adapter imports; few need it

                return web(parameters)
            case "s3" | "gcs" | "azure":
                return _BUCKETS[kind](parameters, origin)
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise NotConfigured(f"storage of type {kind!r}{origin} cannot be set up: {reason}") from None
    raise InvalidRequest(f"storage type {kind!r} is not supported; known are azure, gcs, http, local, pvc and s3")


def s3(parameters: Parameters, origin: str) -> Bucket:
    """`bucket`, `endpoint_url`, `region`, `access_key_id` with `secret_access_key`, `session_token`, `certificate`.

    Without keys, credentials come from where the AWS tools look; without `endpoint_url`, it is AWS itself.
    """
    (bucket,) = required(parameters, "bucket")
    identity, secret, token, endpoint, region = (
        optional(parameters, name) for name in ("access_key_id", "secret_access_key", "session_token", "endpoint_url", "region")
    )
    if bool(identity) != bool(secret):
        raise InvalidRequest("storage of type 's3': `access_key_id` and `secret_access_key` belong together")
    config: S3Config = {"bucket": bucket, "region": region or DEFAULT_REGION, "virtual_hosted_style_request": False}
    if identity and secret:
        config |= {"access_key_id": identity, "secret_access_key": secret}
    if token:
        config["session_token"] = token
    if endpoint:
        config["endpoint"] = _url(endpoint, "endpoint_url")
    store = S3Store(config=config, client_options=_client(parameters, endpoint), retry_config=RETRY)
    return Bucket(store, _place("s3 bucket", bucket, endpoint, origin))


def gcs(parameters: Parameters, origin: str) -> Bucket:
    """`bucket`, `private_key` with `client_email` (neither: anonymous), and `endpoint_url` for a server that is not Google's.

    `token_uri` is accepted and not used: the library signs its own tokens.
    """
    (bucket,) = required(parameters, "bucket")
    key, email, endpoint = (optional(parameters, name) for name in ("private_key", "client_email", "endpoint_url"))
    if bool(key) != bool(email):
        raise InvalidRequest("storage of type 'gcs': `private_key` and `client_email` belong together")
    config: GCSConfig = {"bucket": bucket}
    if key:
        account = {"type": "service_account", "private_key": key, "private_key_id": "", "client_email": email, "client_id": ""}
        config["service_account_key"] = json.dumps(account)
    else:
        config["skip_signature"] = True
    if endpoint:
        config["base_url"] = _url(endpoint, "endpoint_url")
    store = GCSStore(config=config, client_options=_client(parameters, endpoint), retry_config=RETRY)
    return Bucket(store, _place("gcs bucket", bucket, endpoint, origin))


def azure(parameters: Parameters, origin: str) -> Bucket:
    """`account_name`, `container`, and `connection_string`, or `client_id` with `client_secret` and `tenant_id`, or none of these."""
    account, container = required(parameters, "account_name", "container")
    config: AzureConfig = {"account_name": account, "container_name": container}
    connection = optional(parameters, "connection_string")
    names = ("client_id", "client_secret", "tenant_id")
    identity, secret, tenant = (optional(parameters, name) for name in names)
    endpoint = None
    if connection:
        config |= _connection(connection, account)
        endpoint = config.get("endpoint")
    elif identity and secret and tenant:
        config |= {"client_id": identity, "client_secret": secret, "tenant_id": tenant}
    elif identity or secret or tenant:
        raise InvalidRequest("storage of type 'azure': `client_id`, `client_secret` and `tenant_id` belong together")
    else:
        config["skip_signature"] = True
    store = AzureStore(config=config, client_options=_client(parameters, endpoint), retry_config=RETRY)
    return Bucket(store, _place("azure container", container, endpoint or account, origin))


_BUCKETS: Mapping[str, Callable[[Parameters, str], Bucket]] = {"s3": s3, "gcs": gcs, "azure": azure}


def _connection(text: str, account: str) -> AzureConfig:
    """What a connection string (`Name=value;…`) says about one account.

    Raises:
        InvalidRequest: a field is no pair, or there is neither a key nor a signature in it.
    """
    fields = dict(field.split("=", 1) for field in text.split(";") if "=" in field)
    name = fields.get("AccountName", account)
    suffix = fields.get("EndpointSuffix", "core.windows.net")
    scheme = fields.get("DefaultEndpointsProtocol", "https")
    found: AzureConfig = {"account_name": name, "endpoint": fields.get("BlobEndpoint") or f"{scheme}://{name}.blob.{suffix}"}
    if key := fields.get("AccountKey"):
        found["account_key"] = key
    elif signature := fields.get("SharedAccessSignature"):
        found["sas_key"] = signature
    else:
        raise InvalidRequest("storage of type 'azure': `connection_string` holds neither AccountKey nor SharedAccessSignature")
    return found


def _client(parameters: Parameters, endpoint: str | None) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": bool(endpoint and endpoint.startswith("http:")),
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(minutes=15),  # one part of an object; ModelMesh's limit for a whole request
    }
    if certificate := optional(parameters, "certificate"):
        options["root_certificate"] = certificate
    return options


def _url(text: str, name: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"storage parameter {name!r} is {text!r}; it must begin with http:// or https:// and name a host")
    return text.rstrip("/")


def _place(what: str, name: str, at: str | None, origin: str) -> str:
    return f"{what} {name!r}{f' at {at}' if at else ''}{origin}"
