"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from colorjax.errors import UserError
from colorjax.files import check_folder, create_folder, write_whole


def test_a_file_is_written_under_its_own_suffix(tmp_path: Path) -> None:
    suffixes = []

    def write(draft: Path) -> None:
        suffixes.append(draft.suffix)
        draft.write_text("new")

    target = tmp_path / "deep" / ("n" * 251 + ".png")  # as long as a name may be
    write_whole(target, write)
    assert target.read_text() == "new"
    assert suffixes == [".png"]
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(draft: Path) -> None:
        draft.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_folder(Path("new/deeper"), "--output")
    assert list(tmp_path.iterdir()) == []
    create_folder(Path("new/deeper"), "--output")
    create_folder(Path("new/deeper"), "--output")
    assert Path("new/deeper").is_dir()


@pytest.mark.parametrize("function", [check_folder, create_folder])
def test_a_file_is_no_folder(function, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match=r"a.txt/new can't be written.*with --there"):
        function(tmp_path / "a.txt" / "new", "--there")
