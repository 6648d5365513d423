"""A process gets its name back after a restart, and never has another's."""

from pathlib import Path

from upbeat.identity import Identity


def test_two_processes_on_one_folder_have_two_names_and_a_restart_gets_its_own_back(tmp_path: Path) -> None:
    first, second = Identity(tmp_path, ["probe"]), Identity(tmp_path, ["probe"])
    assert first.holder != second.holder
    first.close()
    again = Identity(tmp_path, ["probe"])
    assert again.holder == first.holder
    again.close()
    second.close()


def test_other_roles_and_other_folders_are_others(tmp_path: Path) -> None:
    made = [
        Identity(tmp_path, ["probe"]),
        Identity(tmp_path, ["probe", "api"]),
        Identity(tmp_path / "b", ["probe"]),
    ]
    assert len({one.holder for one in made}) == 3
    for one in made:
        one.close()


def test_without_a_folder_the_name_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    names = {Identity(tmp_path / "file", ["probe"]).holder for _ in range(2)}
    assert len(names) == 2
