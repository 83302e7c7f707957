import os
import subprocess
import sys

import pandas as pd
import pytest

from poolblend.errors import UserError
from poolblend.store import files


def contents(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "card.json"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.no_half_files(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert contents(tmp_path) == ["card.json"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.no_half_files(tmp_path / "x") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "rust"],
)
def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "table.csv"
    files.write_csv(path, pd.DataFrame({"a": [1]}))
    with (
        pytest.raises(
            UserError, match=r"could not write .*table.csv: .*No space left.*nothing was"
        ),
        files.no_half_files(path) as temporary,
    ):
        temporary.write_text("half")
        raise error
    assert path.read_text() == "a\n1\n"
    assert contents(tmp_path) == ["table.csv"]


FULL_DISK = """
import sys; sys.path.insert(0, {src!r})
import resource
import pandas as pd
from pathlib import Path
from poolblend.errors import UserError
from poolblend.store import files
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.{writer}(Path({path!r}), pd.DataFrame({{"text": ["long " * 50] * 500}}))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("writer", ["write_csv"])
def test_a_file_that_may_not_grow_is_refused_by_the_system_in_one_line(tmp_path, writer):
    path = tmp_path / "table"
    src = str(files.__file__).removesuffix("/poolblend/store/files.py")
    script = FULL_DISK.format(src=src, writer=writer, path=str(path))
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.stdout.startswith("could not write"), done.stderr
    assert done.stdout.count("\n") == 1
    assert contents(tmp_path) == []


def test_what_a_killed_process_left_is_swept_and_a_running_ones_kept(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    here = files._machine()
    dead, running, away = (
        tmp_path / f".{owner}.tmp"
        for owner in (
            f"submission-20260101.csv.{here}-{done.pid}",
            f"card.json.{here}-{os.getppid()}",
            f"card.json.away-{done.pid}",
        )
    )
    dead.mkdir()
    for path in (running, away):
        path.write_text("half")
    files.write_text(tmp_path / "card.json", "{}")
    assert contents(tmp_path) == sorted([running.name, away.name, "card.json"])


def test_what_this_process_is_writing_is_not_swept(tmp_path):
    with files.no_half_files(tmp_path / "folds.csv") as temporary:
        temporary.write_text("half")
        files.write_text(tmp_path / "folds.json", "{}")
    assert contents(tmp_path) == ["folds.csv", "folds.json"]


def test_folders_inside_a_new_folder_are_written_too(tmp_path):
    with files.no_half_files(tmp_path / "fold0") as temporary:
        (temporary / "templates").mkdir(parents=True)
        (temporary / "templates" / "chat").write_text("x")
    assert (tmp_path / "fold0" / "templates" / "chat").read_text() == "x"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not write"):
        files.write_text(tmp_path / "file" / "card.json", "{}")


def test_sha256_is_the_published_one_of_abc(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert files.sha256(path) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
