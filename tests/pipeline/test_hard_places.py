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
from poolblend.loading.competition import open_store
from poolblend.report import pictures
from poolblend.store import files
from poolblend.store.survey import survey

MEMBER = "tiny-mean-s42"


@pytest.fixture
def status(capsys):
    """Runs a command as a script does; its exit status, and the one line of its error."""

    def run(main) -> tuple[int, str]:
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        code = 0
        try:
            pipeline.run(main)
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
    return [f"{a.state} {a} {a.told}" for a in survey(store) if a.state in ("damaged", "left over")]


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
    "input/toy/folds.csv": ("train", "folds.csv"),
    "input/toy/folds.json": ("train", "folds.json"),
    f"models/toy/{MEMBER}/fold0": ("train", "fold0"),
    f"oof/toy/{MEMBER}/fold0.parquet": ("train", "fold0.parquet"),
    f"models/toy/{MEMBER}/fold1/card.json": ("train", "card.json"),
    "oof/toy/blend.json": ("blend", "blend.json"),
    "submissions/toy/submission.csv": ("infer", "submission.csv"),
    "submissions/toy/submission.json": ("infer", "submission.json"),
    "submissions/toy/submission-": ("infer", "submission-"),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("path", WRITERS)
def test_a_writer_refused_is_one_line_and_the_same_command_continues(
    finished, status, monkeypatch, path, number
):
    command, name = WRITERS[path]
    whole = {
        k: v for k, v in finished.everything().items() if k.endswith(("parquet", "safetensors"))
    }
    for kind in {"train": ("input", "models", "oof")}.get(command, ()):
        shutil.rmtree(finished.store.root / kind)
    before = finished.everything()
    with refusing(monkeypatch, name, number):
        code, line = status(getattr(finished, command))
    assert code == 2
    assert line.startswith("error: could not write ")
    assert name in line
    assert os.strerror(number) in line
    assert line.count("[Errno") == 1
    assert damaged(finished.store) == []
    after = finished.everything()
    assert {name: after[name] for name in before if "blend" in name or "submission." in name} == {
        name: before[name] for name in before if "blend" in name or "submission." in name
    }
    assert status(getattr(finished, command)) == (0, "")
    finished.infer() if command != "train" else None
    now = finished.everything()
    assert all(now[name] == whole[name] for name in whole if "test_" not in name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_test_predictions_that_cannot_be_kept_cost_no_submission(
    finished, monkeypatch, number, caplog
):
    first = finished.store.submission_path.read_bytes()
    kept = [finished.store.test_path(MEMBER, fold) for fold in range(2)]
    for path in kept:
        path.unlink()
    with refusing(monkeypatch, "test_fold0", number), refusing(monkeypatch, "test_fold1", number):
        assert finished.infer().read_bytes() == first
    assert caplog.text.count("test predictions are not kept: could not write") == 1
    assert not any(path.exists() for path in kept)
    assert damaged(finished.store) == []


def test_pictures_that_cannot_be_written_are_one_line(finished, status, monkeypatch):
    blend = finished.blend()
    with refusing(monkeypatch, ".png", errno.ENOSPC):
        code, line = status(lambda: pictures.weights(blend))
    assert code == 2
    assert "could not write" in line
    assert ".png" in line
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
    """A file system of 1 MB of its own, and functions that close and open it to writing."""
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


def fill(place: Path, leave: int) -> Path:
    """Fill a disk up to so many bytes; the file to delete to make room."""
    ballast = place / "ballast"
    free = shutil.disk_usage(place).free
    ballast.write_bytes(b"x" * max(0, free - leave))
    return ballast


@pytest.mark.parametrize("leave", [0, 4096, 32768, 65536, 98304])
def test_a_full_disk_is_one_line_and_with_room_the_same_commands_continue(
    finished, status, small_disk, leave
):
    settings = finished.settings.model_copy(update={"store": str(small_disk / "store")})
    run = finished._replace(settings=settings, store=open_store(settings))
    ballast = fill(small_disk, leave)
    codes = []
    for command in (run.train, run.blend, run.infer):
        code, line = status(command)
        codes.append(code)
        if code:
            assert code == 2
            assert str(small_disk) in line
            assert (
                "No space left on device" in line
                or "run train.py" in line
                or ("run blend.py" in line)
            )
            assert "Traceback" not in line
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
    settings = finished.settings.model_copy(update={"store": str(small_disk / "store")})
    run = finished._replace(settings=settings, store=open_store(settings))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert status(run.check) == (0, "")
    assert status(run.train) == (0, "")  # finished: there is nothing to write
    for command in (run.blend, run.infer):
        code, line = status(command)
        assert code == 2
        assert "Read-only file system" in line
        assert str(small_disk) in line
    other = settings.model_copy(update={"max_length": 8})
    code, line = status(lambda: pipeline.train(other, overwrite=True))
    assert code == 2
    assert "Read-only file system" in line
    assert status(run.check) == (0, "")


# --- locks ---------------------------------------------------------------------------------------


def test_a_lock_that_cannot_be_made_is_one_line(finished, status, monkeypatch):
    """Too many open files, or no room for another name."""
    path = finished.store.lock(MEMBER, 0).path
    whole = Path.open

    def refuse(self, *args, **kwargs):
        if self == path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))
        return whole(self, *args, **kwargs)

    shutil.rmtree(finished.store.fold_folder(MEMBER, 0))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        code, line = status(finished.train)
    assert code == 2
    assert line.startswith(f"error: could not lock {path}: ")
    assert "Too many open files" in line
    assert status(finished.train) == (0, "")
    assert damaged(finished.store) == []


# --- what is in the way, or goes away ------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "command"),
    [
        (f"models/toy/{MEMBER}", "train"),
        (f"oof/toy/{MEMBER}", "train"),
        ("models", "train"),
        ("input", "train"),
        ("submissions", "infer"),
        ("oof/toy/studies", "blend"),
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


@pytest.mark.parametrize(
    ("place", "command"),
    [
        (f"models/toy/{MEMBER}/fold0/model.safetensors", "check"),
        (f"models/toy/{MEMBER}/fold0/card.json", "train"),
        (f"oof/toy/{MEMBER}/fold0.parquet", "blend"),
        ("oof/toy/blend.json", "infer"),
        ("oof/toy/studies/all-rows.log", "blend"),
        ("input/toy/folds.json", "train"),
        ("input/toy/folds.csv", "train"),
        ("submissions/toy/submission.csv", "infer"),
    ],
)
def test_a_folder_in_the_way_of_a_file_is_one_line_that_names_it(finished, status, place, command):
    path = finished.store.root / place
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("mine")
    code, line = status(getattr(finished, command))
    assert code == 2
    assert path.name in line or command == "check"
    assert (path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("place", "command"),
    [
        (f"oof/toy/{MEMBER}/fold1.parquet", "blend"),
        (f"models/toy/{MEMBER}/fold1/card.json", "blend"),
        (f"models/toy/{MEMBER}/fold1/model.safetensors", "check"),
        (f"models/toy/{MEMBER}/fold1/tokenizer.json", "check"),
        ("input/toy/folds.csv", "train"),
    ],
)
def test_a_file_that_vanishes_between_list_and_open_is_one_line(
    finished, status, monkeypatch, place, command
):
    path = finished.store.root / place
    whole = Path.open

    def vanish(self, *args, **kwargs):
        if self == path:
            self.unlink(missing_ok=True)
        return whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", vanish)
        code, line = status(getattr(finished, command))
    assert code in (0, 2)  # or it is as if it had never been there
    assert not code or path.name in line or "damaged" in line
    for each in (lambda: finished.train(overwrite=True), finished.blend, finished.infer):
        assert status(each) == (0, "")
    assert damaged(finished.store) == []


def test_a_member_that_vanishes_between_list_and_open_is_named(finished, status, monkeypatch):
    path = Path(finished.outside) / "gbm.csv"
    (Path(finished.outside) / "gone.csv").symlink_to(path.with_name("nowhere.csv"))
    code, line = status(finished.blend)
    assert code == 2
    assert "gone.csv is a link that leads nowhere" in line


# --- paths ---------------------------------------------------------------------------------------

NAMES = [
    "with  spaces",
    "with 'quotes' and \"double\"",
    "größe-文字-\u202eabc",
    "🙂",
    "per%20cent #1 {x} $HOME *?[a]",
    "n" * 200,
    "trailing/",
    "-dash",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_path_is_a_place_to_work_in(finished, status, tmp_path, name):
    place = tmp_path / name
    data = finished.settings.data.model_copy(update={"dir": f"{tmp_path}/{name}/data"})
    shutil.copytree(finished.settings.data_dir, place / "data")
    settings = finished.settings.model_copy(
        update={"store": f"{tmp_path}/{name}/store{'/' * name.endswith('/')}", "data": data}
    )
    run = finished._replace(settings=settings, store=open_store(settings))
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
                pipeline.run(getattr(finished, command))
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert end.value.code == 143
    assert "stopped by SIGTERM; the same command continues" in capsys.readouterr().err
    assert finished.everything() == before
