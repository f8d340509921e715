"""Outputs appear whole or not at all, and bad ones are refused before any work."""

import errno
import os
import stat

import pytest

from dps_jax import io
from dps_jax.io import atomic


def test_success_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "out.tif"
    path.write_text("old")
    with io.atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".tif"
        assert temporary.name.startswith(".")
        assert temporary != path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_meet(tmp_path):
    with io.atomic_path(tmp_path / "a.tif") as one, io.atomic_path(tmp_path / "a.tif") as two:
        assert one != two


@pytest.mark.parametrize("problem", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), io.UserError("u")])
@pytest.mark.parametrize("existed", [False, True])
def test_failure_changes_nothing(tmp_path, problem, existed):
    path = tmp_path / "out.tif"
    if existed:
        path.write_text("old")

    def write():
        with io.atomic_path(path) as temporary:
            temporary.write_text("half")
            raise problem

    with pytest.raises(type(problem)):
        write()
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if existed else [])


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk is full .* free some space"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "not permitted"),
        (errno.EROFS, "not permitted"),
        (errno.EIO, "could not be written"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_errors_of_the_disk(tmp_path, monkeypatch, number, message, call):
    message = message.replace(" .* ", ".*")

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    def write():
        with io.atomic_path(tmp_path / "out.tif") as temporary:
            temporary.write_text("new")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, call, fail)
        with pytest.raises(io.UserError, match=message):
            write()
    assert list(tmp_path.iterdir()) == []


def test_permissions_are_the_users_usual(tmp_path):
    (tmp_path / "plain").write_text("")
    with io.atomic_path(tmp_path / "out.tif") as temporary:
        temporary.write_text("new")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "out.tif")]
    assert modes[0] == modes[1]


def test_a_link_keeps_linking(tmp_path):
    (tmp_path / "target.tif").write_text("old")
    (tmp_path / "link.tif").symlink_to(tmp_path / "target.tif")
    with io.atomic_path(tmp_path / "link.tif") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.tif").is_symlink()
    assert (tmp_path / "target.tif").read_text() == "new"


def _places(folder):
    (folder / "file").write_text("")
    return {
        "folder": (folder, "is a folder"),
        "missing parent": (folder / "absent" / "a.tif", "does not exist; create it"),
        "parent is a file": (folder / "file" / "a.tif", "is a file"),
    }


@pytest.mark.parametrize("case", ["folder", "missing parent", "parent is a file"])
def test_bad_places(tmp_path, case):
    path, message = _places(tmp_path)[case]
    with pytest.raises(io.UserError, match=message):
        io.check_output(path)
    with pytest.raises(io.UserError, match=message), io.atomic_path(path):
        pytest.fail("the block must not run")


def test_read_only_folder_and_file(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.os, "access", lambda path, mode: False)
    with pytest.raises(io.UserError, match="cannot be written to"):
        io.check_output(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_text("")
    monkeypatch.setattr(atomic.os, "access", lambda path, mode: os.path.isdir(path))
    with pytest.raises(io.UserError, match="write-protected"):
        io.check_output(tmp_path / "a.tif")


@pytest.mark.parametrize("spelling", ["same", "relative", "dotted", "symlink", "hard link", "folder link"])
def test_output_must_not_be_an_input(tmp_path, monkeypatch, spelling):
    source = tmp_path / "in.tif"
    source.write_text("data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.tif").symlink_to(source)
    os.link(source, tmp_path / "hard.tif")
    (tmp_path / "folder").symlink_to(tmp_path, target_is_directory=True)
    output = {
        "same": source,
        "relative": "in.tif",
        "dotted": tmp_path / "folder" / ".." / tmp_path.name / "in.tif",
        "symlink": tmp_path / "link.tif",
        "hard link": tmp_path / "hard.tif",
        "folder link": tmp_path / "folder" / "in.tif",
    }[spelling]
    with pytest.raises(io.UserError, match="same file as the input"):
        io.check_output(output, inputs=[tmp_path / "other.tif", source])


def test_good_outputs_pass(tmp_path):
    (tmp_path / "in.tif").write_text("")
    (tmp_path / "old.tif").write_text("")
    io.check_output(tmp_path / "new.tif", inputs=[tmp_path / "in.tif"])
    io.check_output(tmp_path / "old.tif", inputs=[tmp_path / "in.tif"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "old.tif"]
    with pytest.raises(io.UserError, match="already exists"):
        io.check_output(tmp_path / "old.tif", overwrite=False)
