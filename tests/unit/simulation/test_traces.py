"""Traces as files: what is written is read, and whatever is wrong is named with its line and column."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Failed, Malformed
from mesh.simulation.making import Making, make
from mesh.simulation.trace import Trace, TracedModel, parse, read, write

HEAD = "time_s,model,size_bytes,load_ms,duration_ms,type\n"


def parsed(text: str) -> Trace:
    return parse(text.splitlines(keepends=True), "t.csv")


def written(trace: Trace) -> str:
    file = io.StringIO()
    write(trace, file)
    return file.getvalue()


def test_a_trace_is_read_as_its_page_says() -> None:
    trace = parsed(
        "# of Tuesday\nmodel, time_s ,load_ms,size_bytes,type,duration_ms\n\n"
        'a,0,100,2048,sklearn,4\nb,0.5,,,,\na,1.25,,4096,,6\n"with, comma",2,0,1,,\n'
    )
    assert trace.accesses == [(0.0, "a"), (0.5, "b"), (1.25, "a"), (2.0, "with, comma")]
    assert trace.models == {
        "a": TracedModel(4096, 100.0, 5.0, "sklearn"),
        "b": TracedModel(),
        "with, comma": TracedModel(1, 0.0),
    }
    assert trace.seconds == 2.0


FIGURES = st.builds(
    TracedModel,
    st.none() | st.integers(1, 10**12),
    st.none() | st.integers(0, 10**7).map(lambda value: value / 8),
    st.none() | st.integers(0, 10**6).map(lambda value: value / 8),
    st.sampled_from(["", "sklearn", "a type"]),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1).filter(lambda name: name[0] != "#")


@given(st.dictionaries(NAMES, FIGURES, min_size=1, max_size=5), st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.data())
def test_what_is_written_is_read(models: dict[str, TracedModel], times: list[int], data: st.DataObject) -> None:
    accesses = [(time / 1000, data.draw(st.sampled_from(sorted(models)))) for time in sorted(times)]
    trace = Trace(accesses, {name: models[name] for _, name in accesses})
    assert parsed(written(trace)) == trace


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.csv is empty; the first line names the columns: time_s,model,"),
        ("# nothing\n\n", "t.csv is empty"),
        ("0,a,1,1\n", "t.csv, line 1: no column time_s, model, size_bytes, load_ms; the line names the columns"),
        ("time_s,model,size_bytes\n", "t.csv, line 1: no column load_ms"),
        (HEAD.replace("type", "kind"), "t.csv, line 1, column 'kind': there is no such column; there are time_s, model"),
        (HEAD.replace("type", "model"), "t.csv, line 1: a column is named twice"),
        (HEAD, "t.csv has no access"),
        (HEAD + "0,a,1\n", "t.csv, line 2: 3 values, and the first line names 6 columns"),
        (HEAD + "0,a,1,1,,\n\n,a,1,1,,\n", "t.csv, line 4, column time_s: the time is missing"),
        (HEAD + "soon,a,1,1,,\n", "t.csv, line 2, column time_s: 'soon' is no number of seconds since the begin"),
        (HEAD + "nan,a,1,1,,\n", "t.csv, line 2, column time_s: 'nan' is no number"),
        (HEAD + "-1,a,1,1,,\n", "t.csv, line 2, column time_s: '-1' is no number"),
        (HEAD + "1700000000000,a,1,1,,\n", "column time_s: 1.7e+12 is later than ten years; times are seconds since the begin"),
        (HEAD + "2,a,1,1,,\n1,a,1,1,,\n", "t.csv, line 3, column time_s: 1 is before the 2 of an earlier line; sort the trace"),
        (HEAD + "0, ,1,1,,\n", "t.csv, line 2, column model: the model has no name"),
        (HEAD + "0,a,0,1,,\n", "t.csv, line 2, column size_bytes: '0' is no whole number of bytes above 0; leave it empty"),
        (HEAD + "0,a,1.5,1,,\n", "t.csv, line 2, column size_bytes: '1.5' is no whole number"),
        (HEAD + "0,a,1,fast,,\n", "t.csv, line 2, column load_ms: 'fast' is no number of milliseconds"),
        (HEAD + "0,a,1,1,inf,\n", "t.csv, line 2, column duration_ms: 'inf' is no number"),
        (HEAD + '0,"a,1,1,,\n', "t.csv, line 2: unexpected end of data"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_column(text: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        parsed(text)
    assert said in caught.value.message


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"none\.csv cannot be read: No such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "zip.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(Malformed, match=r"zip\.csv is no text in UTF-8: byte 4 is 0xff"):
        read(tmp_path / "zip.csv")


def test_a_file_of_a_spreadsheet_with_a_mark_at_its_begin_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeff" + HEAD + "0,a,1,1,,\r\n", encoding="utf-8")
    assert read(tmp_path / "t.csv").accesses == [(0.0, "a")]


def test_what_is_unknown_of_models_is_assumed_and_told() -> None:
    trace = parsed(HEAD + "0,a,100,10,,\n0,b,300,,,\n0,c,,,,\n")
    said = trace.assumed(7, 7.0, 7.0)
    assert said == [
        "1 of 3 models have no size in the trace: 200 bytes assumed, the median of the others",
        "2 of 3 models have no load in the trace: 10 ms assumed, the median of the others",
    ]
    assert trace.models["c"] == TracedModel(200, 10.0, 7.0)
    assert trace.assumed(7, 7.0, 7.0) == []


# Made ones


def test_the_same_wish_makes_the_same_trace_and_another_seed_another() -> None:
    wish = Making(models=20, rate=50, zipf=1.0, seconds=20, size=1 << 20)
    assert written(make(wish)) == written(make(wish))
    assert written(make(wish)) != written(make(Making(20, 50, 1.0, 20, 1 << 20, seed=1)))


@given(st.integers(1, 40), st.floats(0, 3))
def test_a_made_trace_is_read_again_and_the_more_unequal_the_more_the_most_popular_model_is_called(models: int, zipf: float) -> None:
    trace = make(Making(models, 20, zipf, 10, 1 << 20))
    if trace.accesses:
        assert parsed(written(trace)) == trace
        assert len(trace.models) <= models
        assert trace.seconds <= 10


def test_popularity_follows_zipf() -> None:
    def share(zipf: float) -> float:
        trace = make(Making(10, 200, zipf, 20, 1))
        names = [name for _, name in trace.accesses]
        return max(map(names.count, set(names))) / len(names)

    assert share(0) < 0.15 < 0.25 < share(1) < 0.45 < share(2)
