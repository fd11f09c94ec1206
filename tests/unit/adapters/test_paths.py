"""Paths from users stay below their root, and every model id is exactly one folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.paths import MAX_FOLDER, clamp, folder_name, scoped_join

NAMES = st.sampled_from(["a", "b", "..", ".", "", "/", "../..", "x y", "ü"])


class TestAScopedJoin:
    @pytest.mark.parametrize(
        ("root", "parts", "expected"),
        [
            ("a", ["../../b.txt"], "a/b.txt"),
            ("a", ["../../b", "c.txt"], "a/b/c.txt"),
            ("a", ["./b.txt"], "a/b.txt"),
            ("a", ["/b"], "a/b"),
            ("/a/b", ["c.txt"], "/a/b/c.txt"),
            ("a", [""], "a"),
            ("a", ["b/../../../c"], "a/c"),
        ],
    )
    def test_clamps_what_would_leave(self, root: str, parts: list[str], expected: str) -> None:
        assert scoped_join(root, *parts) == Path(expected)

    @given(st.lists(NAMES, max_size=8))
    def test_never_leaves_its_root(self, parts: list[str]) -> None:
        joined = scoped_join("/no/such/root", *parts)
        assert joined.is_relative_to("/no/such/root")
        assert ".." not in joined.parts
        assert str(joined.relative_to("/no/such/root")).strip(".") == clamp(*parts)

    def test_reads_links_as_if_the_root_were_everything(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "folder").mkdir(parents=True)
        (root / "absolute").symlink_to("/etc")
        (root / "up").symlink_to("../../..")
        (root / "folder" / "sibling").symlink_to("../other")
        assert scoped_join(root, "absolute", "passwd") == root / "etc" / "passwd"
        assert scoped_join(root, "up/etc/passwd") == root / "etc" / "passwd"
        assert scoped_join(root, "folder/sibling/x") == root / "other" / "x"

    def test_ends_at_a_circle_of_links(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(OSError, match="too many symbolic links"):
            scoped_join(tmp_path, "a")

    def test_refuses_a_nul_byte(self) -> None:
        with pytest.raises(ValueError, match="NUL"):
            scoped_join("a", "b\0c")

    @given(data=st.data())
    def test_never_leaves_through_any_links(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        root = tmp_path_factory.mktemp("links")
        for name in ("a", "b", "x y"):
            target = data.draw(st.sampled_from(["..", "/", "/etc", "../b", "a", "../../../etc", ""]))
            if target:
                (root / name).symlink_to(target)
        try:
            joined = scoped_join(root, *data.draw(st.lists(NAMES, max_size=6)))
        except OSError:
            return
        assert Path(os.path.realpath(joined)).is_relative_to(root)


class TestAFolderName:
    @pytest.mark.parametrize(
        ("model", "name"),
        [
            ("sklearn-mnist__isvc-3c10c62d34", "sklearn-mnist__isvc-3c10c62d34"),
            ("a/b", "a%2Fb"),
            ("..", "%2E."),
            ("_mlserver_models", "%5Fmlserver_models"),
            ("a%2Fb", "a%252Fb"),
            ("ü", "%C3%BC"),
            ("with~tilde", "with%7Etilde"),
        ],
    )
    def test_is_the_id_where_that_is_safe(self, model: str, name: str) -> None:
        assert folder_name(model) == name

    @given(st.text(min_size=1))
    def test_is_one_safe_name(self, model: str) -> None:
        name = folder_name(model)
        assert len(name) <= MAX_FOLDER
        assert name.isascii()
        assert "/" not in name
        assert name[0] not in "._"

    @given(st.lists(st.text(min_size=1) | st.text("ab/._%", min_size=1) | st.text("x", min_size=150), min_size=2, unique=True))
    def test_differs_where_ids_differ(self, models: list[str]) -> None:
        assert len({folder_name(model) for model in models}) == len(models)

    def test_needs_an_id(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            folder_name("")
