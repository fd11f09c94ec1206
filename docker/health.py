"""Whether the process of this container is well: `python health.py router` or `python health.py adapter`; status 0 if it is.

For engines that run a command, such as Docker's; Kubernetes asks the router's probe port itself. Ports are read from the same variables as
the processes read.
"""

from __future__ import annotations

import os
import sys
import urllib.request

LIMIT = 4.0
"""Seconds; less than the engine waits."""


def router() -> bool:
    """The router's own probe: it is false when its process is beyond help, not while it waits for its model server."""
    port = os.environ.get("MM_PROBE_PORT", "8089")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}/live", timeout=LIMIT) as answer:
        return bool(answer.status == 200)


def adapter() -> bool:
    """Whether the adapter serves, which it does not while its model server is down."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    socket = os.environ.get("ADAPTER_SOCKET")
    address = f"unix:{socket}" if socket else f"127.0.0.1:{os.environ.get('ADAPTER_PORT', '8085')}"
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """0 well, 1 not, 2 wrong arguments."""
    checks = {"router": router, "adapter": adapter}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        print("usage: health.py router|adapter", file=sys.stderr)
        return 2
    try:
        well = checks[sys.argv[1]]()
    except Exception as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
