import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.embedded.folder import Account, Folder, FolderError

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def path() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="upbeat-folder-"))
    made.chmod(0o711)
    yield made / "data"
    shutil.rmtree(made)


def test_the_folder_records_its_format_and_is_closed_to_others(path: Path) -> None:
    folder = Folder.claim(path, postgres_major=18)
    assert json.loads((path / "format.json").read_text()) == {"format": 1, "postgres": 18}
    assert path.stat().st_mode == (0o40711 if AS_ROOT else 0o40700)
    assert folder.subfolder("run").stat().st_mode == 0o40700
    folder.release()
    Folder.claim(path, postgres_major=18).release()


def test_a_folder_in_use_says_by_whom(path: Path) -> None:
    folder = Folder.claim(path, postgres_major=18)
    with pytest.raises(
        FolderError, match=rf"in use by the Upbeat with pid {os.getpid()}, .*Stop that one first"
    ):
        Folder.claim(path, postgres_major=18)
    folder.release()


def test_another_postgresql_major_is_refused_with_the_way_out(path: Path) -> None:
    Folder.claim(path, postgres_major=17).release()
    with pytest.raises(
        FolderError, match=r"written by PostgreSQL 17, this Upbeat runs PostgreSQL 18.*`upbeat backup`"
    ):
        Folder.claim(path, postgres_major=18)
    Folder.claim(path, postgres_major=17).release()


def test_a_newer_format_is_refused(path: Path) -> None:
    Folder.claim(path, postgres_major=18).release()
    (path / "format.json").write_text('{"format": 2, "postgres": 18}')
    with pytest.raises(FolderError, match="has format 2, this Upbeat reads format 1"):
        Folder.claim(path, postgres_major=18)


def test_a_file_in_its_place_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(FolderError, match="cannot be used"):
        Folder.claim(path, postgres_major=18)


@pytest.mark.skipif(not AS_ROOT, reason="needs root to be refused as somebody else")
def test_a_folder_we_may_not_write_says_who_may_not(path: Path) -> None:
    path.mkdir(mode=0o755)
    pid = os.fork()
    if pid == 0:  # this process forgets root for good
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            Folder.claim(path, postgres_major=18)
        except FolderError as refusal:
            os._exit(
                0
                if "cannot be written by user 'nobody'" in str(refusal) and "Give that user" in str(refusal)
                else 1
            )
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user is its own account")
def test_a_folder_behind_a_closed_door_names_the_door(path: Path) -> None:
    path.mkdir(mode=0o700)
    with pytest.raises(FolderError, match=rf"'nobody', who cannot enter .* because {path} is closed"):
        Folder.claim(path / "data", postgres_major=18)


@pytest.mark.skipif(not AS_ROOT, reason="needs root to mount a small disk")
def test_a_full_disk_says_so(path: Path) -> None:
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(
            FolderError, match=r"has 0 MB free; Upbeat needs 200 MB to start. Free some space"
        ):
            Folder.claim(path, postgres_major=18)
        folder = Folder(path, Account.current(), -1)
        with pytest.raises(FolderError, match=r"The disk of the data folder .* is full .*Free some space"):
            folder.write(path / "large", "x" * (2 << 20))
    finally:
        subprocess.run(["umount", path], check=True)
