"""The environment says whether, where and how Prometheus finds metrics; a mistake in it is named."""

from __future__ import annotations

import logging
import re

import pytest

from mesh.core.errors import Malformed
from mesh.telemetry.options import Options, StatsdOptions, read_options


def read(metrics: str, info: str = "", environ: dict[str, str] | None = None) -> Options | StatsdOptions | None:
    return read_options(metrics, info, environ or {})


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("prometheus", Options(2112, "https", False, False)),
        ("prometheus:port=2112;scheme=http;per_model_metrics=true;fq_names=true", Options(2112, "http", True, True)),
        ("prometheus:port=0;scheme=https;", Options(0, "https")),
        ("prometheus:per_model_metrics=False;fq_names=TRUE", Options(2112, "https", False, True)),
        ("prometheus:mem_detail=none;port=1", Options(1, "https")),
        ("statsd", StatsdOptions(8126, False, False)),
        ("statsd:port=9125;fq_names=true;legacy=True", StatsdOptions(9125, True, True)),
    ],
)
def test_types_with_their_parameters(text: str, options: Options | StatsdOptions) -> None:
    assert read(text) == options


@pytest.mark.parametrize("name", ["MM_METRICS_STATSD_PORT", "MM_METRICS_PROMETHEUS_PORT"])
def test_the_old_variables_are_warned_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read("prometheus", environ={name: "1"}) == Options()
    assert f"{name} has no effect; the port is a parameter of MM_METRICS" in caplog.text


def test_disabled_is_a_wish_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    assert read("disabled") is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("statsd:scheme=http", "there is no parameter scheme; known are port, fq_names and legacy"),
        ("statsd:port=0", "port=0 is no port of a StatsD server"),
        ("statsd:port=65536", "port=65536 is not a number"),
        ("statsd:legacy=1", "legacy=1 is neither"),
        ("influx:port=1", "there is no type influx"),
        ("prometheus:prot=1;port=2", "there is no parameter prot; known are port, scheme, per_model_metrics and fq_names"),
        ("prometheus:port=x", "port=x is not a number"),
        ("prometheus:port=65536", "port=65536 is not a number"),
        ("prometheus:port=-1", "port=-1 is not a number"),
        ("prometheus:scheme=ftp", "scheme=ftp is neither"),
        ("prometheus:per_model_metrics=yes", "per_model_metrics=yes is neither"),
        ("prometheus:fq_names=1", "fq_names=1 is neither"),
    ],
)
def test_what_cannot_be_followed_is_logged_once_and_switches_metrics_off(text: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(text) is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"MM_METRICS={text}" in record.getMessage()
    assert fault in record.getMessage()


@pytest.mark.parametrize(
    "text", ["", " ", "prometheus:", "prometheus:port", "prometheus:port=", "prometheus;port=1", "prometheus:port=1;;", "2112", ":port=1"]
)
def test_what_has_not_the_form_of_the_setting_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match=f"^MM_METRICS={re.escape(text)} is not of the form"):
        read(text)


# The constant gauge


def test_the_constant_gauge_takes_its_labels_from_the_environment() -> None:
    options = read("prometheus", "assistant_deployment_info:relabel;deployment=DEPLOY,slot=SLOT", {"DEPLOY": "d1", "SLOT": ""})
    assert isinstance(options, Options)
    assert options.info == ("assistant_deployment_info:relabel", (("deployment", "d1"), ("slot", "")))


def test_an_unset_variable_is_refused_by_name() -> None:
    with pytest.raises(Malformed, match="takes label slot from the environment variable SLOT, which is not set"):
        read("prometheus", "info;deployment=DEPLOY,slot=SLOT", {"DEPLOY": "d1"})


@pytest.mark.parametrize(
    "info", ["info", "info;", "Info;a=B", "info;a", "info;a=", "info;=B", "info;a=B,", "info;a=B;c=B", "info;1=B", "info,a=B"]
)
def test_another_form_is_refused(info: str) -> None:
    with pytest.raises(Malformed, match="is not of the form <name>;label=VARIABLE"):
        read("prometheus", info, {"B": "b"})


def test_a_label_twice_is_refused() -> None:
    with pytest.raises(Malformed, match="has label a twice"):
        read("prometheus", "info;a=B,a=B", {"B": "b"})


def test_there_may_be_many_labels() -> None:
    options = read("prometheus", "info;" + ",".join(f"{label}=B" for label in "abcdefgh"), {"B": "b"})
    assert isinstance(options, Options)
    assert options.info == ("info", tuple((label, "b") for label in "abcdefgh"))


def test_statsd_has_no_constant_gauge_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert read("statsd", "info;a=B", {"B": "b"}) == StatsdOptions()
    assert "MM_INFO_METRICS has no effect" in caplog.text
