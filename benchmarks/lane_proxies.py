"""The native proxies that the express lane is measured beside: what starts each, with one worker and HTTP/2 on both sides."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mesh.core.errors import Failed
from mesh.local import environments

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen hop
    bind 127.0.0.1:{port} {how}
    server upstream 127.0.0.1:{upstream} proto h2
"""
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    http2_max_concurrent_streams 1000;
    upstream hop {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} {how};
        {certificate}
        location / {{ grpc_pass grpc://hop; }}
    }}
}}
"""
API = "type.googleapis.com/envoy.extensions"


class Tls(NamedTuple):
    """What is shown to clients: a key and its certificate, PEM, and both in one file."""

    key: Path
    chain: Path
    both: Path


def haproxy(program: str, folder: Path, port: int, upstream: int, tls: Tls | None) -> list[str]:
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(HAPROXY.format(port=port, upstream=upstream, how=f"ssl crt {tls.both} alpn h2" if tls else "proto h2"))
    return [program, "-db", "-f", str(config)]


def nghttpx(program: str, folder: Path, port: int, upstream: int, tls: Tls | None) -> list[str]:
    options = ["--workers=1", "--conf=/dev/null", f"--pid-file={folder / f'nghttpx-{port}.pid'}"]
    front = f"-f127.0.0.1,{port}" if tls else f"-f127.0.0.1,{port};no-tls"
    return [program, front, f"-b127.0.0.1,{upstream};;proto=h2", *options, *([str(tls.key), str(tls.chain)] if tls else [])]


def nginx(program: str, folder: Path, port: int, upstream: int, tls: Tls | None) -> list[str]:
    config, place = folder / f"nginx-{port}.conf", folder / f"nginx-{port}"
    place.mkdir()
    certificate = f"ssl_certificate {tls.chain}; ssl_certificate_key {tls.key};" if tls else ""
    how = "ssl http2" if tls else "http2"
    config.write_text(NGINX.format(folder=place, port=port, upstream=upstream, how=how, certificate=certificate))
    return [program, "-p", str(place), "-c", str(config)]


def envoy(program: str, folder: Path, port: int, upstream: int, tls: Tls | None) -> list[str]:
    config = folder / f"envoy-{port}.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [_listener(port, tls)], "clusters": [_cluster(upstream)]}}))
    return [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(port: int, tls: Tls | None) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    manager = {
        "@type": f"{API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "hop",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{API}.filters.http.router.v3.Router"}}],
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    chain: dict[str, Any] = {"filters": [network]}
    if tls:
        files = {"certificate_chain": {"filename": str(tls.chain)}, "private_key": {"filename": str(tls.key)}}
        context = {
            "@type": f"{API}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [files], "alpn_protocols": ["h2"]},
        }
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return {"name": "hop", "address": _address(port), "filter_chains": [chain]}


def _cluster(upstream: int) -> dict[str, Any]:
    protocol = f"{API}.upstreams.http.v3.HttpProtocolOptions"
    options = {"@type": protocol, "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": _address(upstream)}}
    return {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {protocol.removeprefix("type.googleapis.com/"): options},
        # The default of 1024 would refuse calls where many run at once.
        "circuit_breakers": {"thresholds": [{"max_requests": 100_000, "max_pending_requests": 100_000}]},
    }


Maker = Callable[[str, Path, int, int, Tls | None], list[str]]
"""The command of a proxy: its program, a folder for its configuration, where it listens, where it leads, and what it shows to clients."""

ALL: dict[str, Maker] = {"haproxy": haproxy, "nghttpx": nghttpx, "envoy": envoy, "nginx": nginx}


def there() -> dict[str, tuple[str, Maker]]:
    """Those that are installed, by name; Envoy's environment is made if it can be."""
    found = {name: shutil.which(name) for name in ALL}
    found["envoy"] = found["envoy"] or _envoy()
    return {name: (program, ALL[name]) for name, program in found.items() if program}


def _envoy() -> str | None:
    try:
        folder = environments.ensure("proxies")
    except Failed as error:
        print(f"Envoy is not measured: {error}", file=sys.stderr)
        return None
    return next((str(path) for path in folder.glob("lib/python*/site-packages/envoy/_bin/envoy")), None)
