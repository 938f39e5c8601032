"""A directory is replaced only if it holds nothing but what the same command writes."""

from pathlib import Path

import pytest

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import (
    claim_directory,
    foreign_entries,
    read_json,
    remove_unfinished,
    whole_directory,
    whole_file,
)

WRITTEN = (r"config\.json", r"shard-\d+\.bin", r"part/weights\.bin", r"checkpoint-\d+/")


def content_of(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): path.read_text() for path in directory.rglob("*") if path.is_file()}


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"old {name}")


def test_a_new_or_empty_directory_and_one_of_the_same_command_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "same", "config.json", "shard-12.bin", "part/weights.bin", "checkpoint-3/deep/anything")
    for name in ("new/inside", "empty", "same"):
        with whole_directory(tmp_path / name, WRITTEN) as building:
            write(building, "config.json")
        assert content_of(tmp_path / name) == {"config.json": "old config.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new", "same"]


@pytest.mark.parametrize(
    ("entries", "foreign"),
    [
        (["config.json", "thesis.tex"], ["thesis.tex"]),
        (["config.json.bak"], ["config.json.bak"]),
        ([".hidden"], [".hidden"]),
        (["checkpoint-3"], ["checkpoint-3"]),  # a file of that name
        (["part/weights.bin", "part/notes.txt"], ["part/notes.txt"]),
        (["part/deeper/weights.bin"], ["part/deeper/"]),
        (["photos/a.png", "photos/b.png", "config.json"], ["photos/"]),
    ],
)
def test_foreign_entries_are_named_and_nothing_is_touched(
    tmp_path: Path, entries: list[str], foreign: list[str]
) -> None:
    target = tmp_path / "target"
    write(target, *entries)
    before = content_of(target)
    assert foreign_entries(target, WRITTEN) == foreign
    with (
        pytest.raises(FileExistsError, match="1 entry .*move these files elsewhere") as error,
        whole_directory(target, WRITTEN),
    ):
        raise AssertionError("the work was started")
    assert foreign[0] in str(error.value)
    assert content_of(target) == before


def test_at_most_three_of_many_foreign_entries_are_named(tmp_path: Path) -> None:
    write(tmp_path / "target", *(f"{letter}.txt" for letter in "abcde"))
    with pytest.raises(FileExistsError, match=r"holds 5 entries .*: a\.txt, b\.txt, c\.txt, \.\.\.\. Name"):
        claim_directory(tmp_path / "target", WRITTEN)


def test_a_link_is_foreign_and_a_link_to_the_directory_stays(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "config.json")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "config.json").symlink_to(tmp_path / "elsewhere" / "config.json")
    with pytest.raises(FileExistsError, match=r"config\.json"):
        claim_directory(tmp_path / "target", WRITTEN)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with whole_directory(tmp_path / "link", WRITTEN) as building:
        write(building, "shard-0.bin")
    assert (tmp_path / "link").is_symlink() and list(content_of(tmp_path / "elsewhere")) == ["shard-0.bin"]


def test_a_file_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    write(tmp_path, "results")
    with pytest.raises(FileExistsError, match="is a file"):
        claim_directory(tmp_path / "results", WRITTEN)


def test_what_must_survive_is_not_replaced_even_by_an_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work, data = tmp_path / "home", tmp_path / "work" / "here", tmp_path / "all" / "data"
    for path in (home, work, data):
        path.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    for directory in ("/", home, ".", "..", work, work.parent, data, data.parent, tmp_path / "all" / "x" / ".."):
        with pytest.raises(FileExistsError, match="Name a new directory"):
            claim_directory(directory, WRITTEN, keep=[data])
    claim_directory(data / "new", WRITTEN, keep=[data])
    claim_directory("new", WRITTEN, keep=[data])


def test_a_file_added_during_the_work_survives(tmp_path: Path) -> None:
    write(tmp_path / "target", "config.json")
    with pytest.raises(FileExistsError, match=r"notes\.txt"), whole_directory(tmp_path / "target", WRITTEN) as building:
        write(building, "config.json")
        write(tmp_path / "target", "notes.txt")
    assert set(content_of(tmp_path / "target")) == {"config.json", "notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": 1, "a": 2}', "\x00"])
def test_json_that_cannot_be_read_names_its_file(tmp_path, text):
    path = tmp_path / "row.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TgmmError, match=r"row\.json"):
        read_json(path)


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    left, own = tmp_path / f".synth.json-{'0a' * 16}", tmp_path / ".notes-today"
    for path in (left, own, tmp_path / "synth.json"):
        path.write_text("{}")
    remove_unfinished(tmp_path)
    assert not left.exists() and own.exists() and (tmp_path / "synth.json").exists()


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(FileExistsError, match="device"), whole_file(Path("/dev/null")) as building:
        building.write_text("x")
    assert Path("/dev/null").is_char_device()
