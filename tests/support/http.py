"""Requests without TLS: `httpx.get` and its like make a client each time, and that reads the authorities' certificates for 50 ms."""

from __future__ import annotations

import httpx

plain = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""For all tests of a process. It keeps no connection: servers come and go, and one that ends waits for nobody."""
