"""Full disks, closed folders, odd paths: one clear line, status 2, the store as it was."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from poolblend import pipeline
from poolblend.commands import command_line
from poolblend.loading.competition import open_store
from poolblend.store import files
from poolblend.store.survey import survey

MEMBER = "tiny-mean-s42"


def slow(*cases) -> list:
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


@pytest.fixture
def status(capsys):
    """Runs a command as a script does; its exit status, and the one line of its error."""

    def run(main) -> tuple[int, str]:
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        code = 0
        try:
            command_line.run(main)
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, before)
        lines = capsys.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == (code == 2)
        assert errors == lines[len(lines) - len(errors) :]
        return code, "".join(errors)

    return run


def damaged(store) -> list[str]:
    wrong = ("damaged", "left over")
    return [f"{a.state} {a.name} {a.message}" for a in survey(store) if a.state in wrong]


def moved(run, place):
    """The same run with another store."""
    settings = run.settings.model_copy(update={"store": str(place)})
    return run._replace(settings=settings, store=open_store(settings))


# --- each writer, refused by the system ----------------------------------------------------------


@contextmanager
def refusing(monkeypatch, name: str, number: int):
    """Whatever is written for a file of this name fails as it does on a full or closed disk."""
    whole, once = files.flush, iter([True])

    def flush(path: Path) -> None:
        # A checkpoint that cannot be written ends no training.
        if name in path.name and "checkpoints" not in path.parts and next(once, False):
            raise OSError(number, os.strerror(number), str(path))
        whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "flush", flush)
        yield


WRITERS = {
    "folds.csv": "train",
    "folds.json": "train",
    "fold0": "train",
    "fold0.parquet": "train",
    "card.json": "train",
    "blend.json": "blend",
    "submission.csv": "infer",
    "submission.json": "infer",
    "submission-": "infer",
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_refused_is_one_line_and_the_same_command_continues(
    finished, status, monkeypatch, name
):
    command = getattr(finished, WRITERS[name])
    number = errno.EACCES if name.endswith(".json") else errno.ENOSPC
    ends = ("parquet", "safetensors")
    whole = {k: v for k, v in finished.everything().items() if k.endswith(ends)}
    for kind in ("input", "models", "oof") if WRITERS[name] == "train" else ():
        shutil.rmtree(finished.store.root / kind)
    before = finished.everything()
    with refusing(monkeypatch, name, number):
        code, line = status(command)
    assert code == 2
    assert line.startswith("error: could not write ")
    assert name in line
    assert os.strerror(number) in line
    assert line.count("[Errno") == 1
    assert damaged(finished.store) == []
    after = finished.everything()
    results = [name for name in before if "blend" in name or "submission." in name]
    assert [after[name] for name in results] == [before[name] for name in results]
    assert status(command) == (0, "")
    if WRITERS[name] != "train":
        finished.infer()
    now = finished.everything()
    assert all(now[name] == whole[name] for name in whole if "test_" not in name)


def test_test_predictions_that_cannot_be_kept_cost_no_submission(finished, monkeypatch, caplog):
    first = finished.store.submission_path.read_bytes()
    kept = [finished.store.test_path(MEMBER, fold) for fold in range(2)]
    for path in kept:
        path.unlink()
    closed = errno.EROFS
    with refusing(monkeypatch, "test_fold0", closed), refusing(monkeypatch, "test_fold1", closed):
        assert finished.infer().read_bytes() == first
    assert caplog.text.count("test predictions are not stored: could not write") == 1
    assert not any(path.exists() for path in kept)
    assert damaged(finished.store) == []


def test_a_report_that_cannot_be_written_keeps_the_old_one(finished, status, monkeypatch):
    finished.store.write_report("old")
    with refusing(monkeypatch, "blend.html", errno.ENOSPC):
        code, line = status(lambda: finished.store.write_report("new"))
    assert (code, line[:22]) == (2, "error: could not write")
    assert finished.store.report_path.read_text() == "old"


# --- a real disk of one megabyte -----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.name != "posix" or shutil.which("mount") is None:
        pytest.skip("there is no mount")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("left", [4096, *slow(0, 32768, 65536, 98304)])
def test_a_full_disk_is_one_line_and_with_room_the_same_commands_continue(
    finished, status, small_disk, left
):
    run, ballast = moved(finished, small_disk / "store"), small_disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - left))
    codes = []
    for command in (run.train, run.blend, run.infer):
        code, line = status(command)
        codes.append(code)
        if code:
            assert code == 2
            assert str(small_disk) in line
            reasons = ("No space left on device", "run train.py", "run blend.py")
            assert any(reason in line for reason in reasons)
        assert damaged(run.store) == []
    assert max(codes) == 2
    ballast.unlink()
    for command in (run.train, run.blend, run.infer, run.check):
        assert status(command) == (0, "")
    expected, found = finished.everything(), run.everything()
    for name in expected:
        if name.endswith((".parquet", ".safetensors", "submission.csv")) and "test_" not in name:
            assert found[name] == expected[name]


def test_a_disk_that_is_closed_to_writing_is_one_line_and_can_be_read(finished, status, small_disk):
    shutil.copytree(finished.store.root, small_disk / "store")
    run = moved(finished, small_disk / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert status(run.check) == (0, "")
    assert status(run.train) == (0, "")  # finished: there is nothing to write
    other = run.settings.model_copy(update={"max_length": 8})
    for command in (run.blend, run.infer, lambda: pipeline.train(other, overwrite=True)):
        code, line = status(command)
        assert code == 2
        assert "Read-only file system" in line
        assert str(small_disk) in line
    assert status(run.check) == (0, "")


# --- what is in the way, or goes away ------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "command"),
    [
        (f"models/toy/{MEMBER}", "train"),
        (f"oof/toy/{MEMBER}", "train"),
        ("input", "train"),
        ("submissions", "infer"),
    ],
)
def test_a_file_in_the_way_of_a_folder_is_one_line_that_names_it(finished, status, place, command):
    path = finished.store.root / place
    shutil.rmtree(path)
    if command == "train":
        shutil.rmtree(finished.store.root / "models", ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    code, line = status(getattr(finished, command))
    assert code == 2
    assert str(path) in line
    assert path.read_text() == "mine"
    path.unlink()
    for each in (finished.train, finished.blend, finished.infer):
        assert status(each) == (0, "")


FILES = [
    (f"models/toy/{MEMBER}/fold1/model.safetensors", "check"),
    (f"models/toy/{MEMBER}/fold1/card.json", "train"),
    (f"oof/toy/{MEMBER}/fold1.parquet", "blend"),
    ("oof/toy/blend.json", "infer"),
    ("input/toy/folds.json", "train"),
    ("input/toy/folds.csv", "train"),
    ("submissions/toy/submission.csv", "infer"),
]


@pytest.mark.parametrize(("place", "command"), FILES)
def test_a_folder_in_the_way_of_a_file_is_one_line_that_names_it(finished, status, place, command):
    path = finished.store.root / place
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("mine")
    code, line = status(getattr(finished, command))
    assert code == 2
    assert path.name in line or command == "check"
    assert (path / "mine").read_text() == "mine"


# --- paths ---------------------------------------------------------------------------------------

NAMES = [
    "-with 'quotes' \"double\"  größe-文字-\u202eabc 🙂 per%20cent #1 {x} $HOME *?[a]/",
    *slow("n" * 200, "-dash", "🙂", "with  spaces"),
]


@pytest.mark.parametrize("name", NAMES)
def test_any_path_is_a_place_to_work_in(finished, status, tmp_path, name):
    shutil.copytree(finished.settings.data_dir, tmp_path / name / "data")
    data = finished.settings.data.model_copy(update={"dir": f"{tmp_path}/{name}/data"})
    run = finished._replace(settings=finished.settings.model_copy(update={"data": data}))
    run = moved(run, f"{tmp_path}/{name}/store{'/' * name.endswith('/')}")
    for command in (run.train, run.blend, run.infer, run.check):
        assert status(command) == (0, "")
    assert run.store.submission_path.read_bytes() == finished.store.submission_path.read_bytes()


def test_a_store_may_be_a_link_to_another_disk(finished, status, tmp_path):
    away = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    place = away / f"poolblend-{os.getpid()}"
    try:
        shutil.copytree(finished.store.root, place)
        shutil.rmtree(finished.store.root)
        finished.store.root.symlink_to(place)
        shutil.rmtree(finished.store.fold_folder(MEMBER, 1))
        for command in (finished.train, finished.blend, finished.infer, finished.check):
            assert status(command) == (0, "")
        assert finished.store.root.is_symlink()
    finally:
        shutil.rmtree(place, ignore_errors=True)


# --- asked to stop while blending or inferring ----------------------------------------------------


@pytest.mark.parametrize("command", ["blend", "infer"])
def test_a_signal_leaves_nothing_half_written(finished, monkeypatch, capsys, command):
    before = finished.everything()
    whole = files.flush

    def stopped(path: Path) -> None:
        whole(path)
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(files, "flush", stopped)
            with pytest.raises(SystemExit) as end:
                command_line.run(getattr(finished, command))
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert end.value.code == 143
    assert "stopped by SIGTERM; the same command continues" in capsys.readouterr().err
    assert finished.everything() == before
