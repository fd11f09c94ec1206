"""The payload processors that a pod's settings ask for."""

from __future__ import annotations

from urllib.parse import quote

from mesh.settings import Settings
from mesh.telemetry import catalogue
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.payloads import Payloads
from mesh.telemetry.processors import read_processors


def payloads_of(settings: Settings, metrics: Metrics) -> Payloads | None:
    """What tells processors of calls; None if there are none."""
    make = read_processors(settings.payload_processors, f"/modelmesh/{quote(settings.service_name)}/{quote(settings.instance_id)}")
    if make is None:
        return None
    payloads = Payloads(make, settings.payload_threads, settings.payload_capacity)
    metrics.read(catalogue.PAYLOADS, payloads.counts)
    return payloads
