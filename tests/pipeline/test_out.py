"""`infer.py --out`: one file is written, and the store is only read."""

import shutil
import subprocess
import tempfile
import time

import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.commands import command_line, run
from poolblend.competition.options import Join
from poolblend.errors import UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.competition import open_store
from rig.audit import close, seen

FROZEN = (
    "members=[{pooler: mean, head: {kind: logistic}}, {pooler: max, train: {freeze_layers: 2}}]",
    "blend={fitter: equal, fitters: [equal], resamples: 50}",
)


@pytest.fixture
def blended(trained):
    """Function of further config keys: the settings of a blended run; none of its tests is kept."""

    def settings(*sets):
        made = trained(*sets)
        pipeline.blend(made)
        return made

    return settings


@pytest.fixture
def frozen(toy, tmp_path):
    """A blended run whose members have frozen layers, so that hidden states are computed."""
    settings = config.load(toy(n=36, n_test=8, metric="log_loss", folds={"n": 2}), FROZEN)
    pipeline.train(settings)
    pipeline.blend(settings)
    shutil.rmtree(tmp_path / "store" / "cache")
    return settings


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_store_is_only_read_and_the_submission_is_the_same(
    frozen, tmp_path, monkeypatch, workers
):
    root, scratch = tmp_path / "store", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    close(root)
    before = seen(root)
    out = pipeline.infer(frozen, out=tmp_path / "working" / "mine.csv", workers=workers)
    assert seen(root) == before
    assert [path.name for path in out.parent.iterdir()] == ["mine.csv"]
    assert list(scratch.glob("poolblend-*")) == []
    for place in [root, *root.rglob("*")]:
        place.chmod(place.stat().st_mode | 0o200)
    assert pipeline.infer(frozen).read_bytes() == out.read_bytes()
    assert list((root / "cache").rglob("states-*.npy"))  # which is what --out could not do


def test_a_store_on_a_read_only_mount_serves_inference(frozen, tmp_path, capsys):
    settings = frozen
    root, mount = tmp_path / "store", tmp_path / "mount"
    mount.mkdir()
    steps = (["--bind", str(root), str(mount)], ["-o", "remount,bind,ro", str(mount)])
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    try:
        for step in steps:
            done = subprocess.run(["mount", *step], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        there = settings.model_copy(update={"store": str(mount)})
        with pytest.raises(UserError, match="Read-only file system.*output=DIR.*--out FILE"):
            pipeline.infer(there)
        out = pipeline.infer(there, out=tmp_path / "mine.csv")
        assert f"submission: {out} (8 rows)" in capsys.readouterr().out
    finally:
        subprocess.run(["umount", str(mount)], capture_output=True)
    assert pipeline.infer(settings).read_bytes() == out.read_bytes()


def test_kept_test_predictions_are_read(blended, tmp_path, monkeypatch):
    settings = blended()
    first = pipeline.infer(settings).read_bytes()

    def work(*_, **__):
        raise AssertionError("it computes what is kept")

    monkeypatch.setattr(FoldModels, "_run", work)
    assert pipeline.infer(settings, out=tmp_path / "mine.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("", "is a folder; name a file in it"),
        ("data/test.csv", "is a table of the competition; name another file"),
        ("data/prompts.csv", "is a table of the competition; name another file"),
        ("data/parts/1.parquet", "is a table of the competition; name another file"),
        ("toy.csv/submission.csv", "toy.csv cannot be written: Not a directory; name a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line_before_the_work(
    blended, tmp_path, monkeypatch, name, line
):
    settings = blended()
    data = {"train": "parts", "joins": [Join(train="prompts.csv", on="id")]}
    settings = settings.model_copy(update={"data": settings.data.model_copy(update=data)})
    monkeypatch.setattr(FoldModels, "_run", None)
    (tmp_path / "toy.csv").write_text("mine")
    before = seen(tmp_path)
    with pytest.raises(UserError, match=line):
        pipeline.infer(settings, out=tmp_path / name)
    assert seen(tmp_path) == before


def test_it_goes_with_nothing_that_writes_elsewhere(capsys):
    for other in (["--vectors"], ["--verify-oof"], ["--pseudo-labels", "first"]):
        with pytest.raises(SystemExit) as end:
            run("infer", ["--out", "mine.csv", *other])
        assert end.value.code == 2
        assert "not allowed with argument --out" in capsys.readouterr().err
        with pytest.raises(SystemExit) as end:
            run("infer", ["--time-limit", "1h", *other])
        assert end.value.code == 2
        assert "error: --time-limit does nothing with --verify-oof" in capsys.readouterr().err


# --- a time limit -----------------------------------------------------------------------------


@pytest.fixture
def slow_after(monkeypatch):
    """Makes the clock run so fast after `n` fold models that the time limit is near."""

    def after(n):
        whole, done, clock = FoldModels._run, [], time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600 * (len(done) >= n))

        def work(self, what, member, fold, *args):
            result = whole(self, what, member, fold, *args)
            done.append((member, fold))
            return result

        monkeypatch.setattr(FoldModels, "_run", work)
        return done

    return after


def test_near_the_time_limit_each_member_is_the_mean_of_the_folds_that_are_done(
    blended, slow_after, tmp_path, caplog
):
    settings = blended("blend.fitter=equal", "submission=probabilities")
    done = slow_after(3)
    out = pipeline.infer(settings, out=tmp_path / "mine.csv", time_limit=1800)
    mean, largest = "tiny-mean-s42", "tiny-max-s42"
    assert done == [(largest, 0), (mean, 0), (largest, 1)]  # a blend of both as early as possible
    assert caplog.messages[-1] == (
        "stopped before the time limit: the submission averages fewer fold models "
        f"({largest}: 2 of 3, {mean}: 1 of 3)"
    )
    pipeline.infer(settings)
    kept = open_store(settings)
    parts = {
        place: pd.read_parquet(kept.test_path(*place)).set_index("id").iloc[:, 0] for place in done
    }
    expected = ((parts[largest, 0] + parts[largest, 1]) / 2 + parts[mean, 0]) / 2
    found = pd.read_csv(out).set_index("id")["target"]
    pd.testing.assert_series_equal(found, expected, check_names=False)


def test_without_a_fold_model_of_each_member_there_is_no_submission(blended, slow_after, tmp_path):
    settings = blended("blend.fitter=equal")
    slow_after(1)
    with pytest.raises(UserError, match="any fold model of tiny-mean-s42 was done: there is no"):
        pipeline.infer(settings, out=tmp_path / "mine.csv", time_limit=1800)
    assert not (tmp_path / "mine.csv").exists()


def test_without_out_the_same_command_continues(blended, slow_after, monkeypatch):
    settings = blended("blend.fitter=equal")
    whole = pipeline.infer(settings).read_bytes()
    for path in (open_store(settings).root / "oof").rglob("test_fold*"):
        path.unlink()
    with monkeypatch.context() as patch:
        done = slow_after(4)
        with pytest.raises(SystemExit) as end:
            command_line.run(lambda: pipeline.infer(settings, time_limit=1800))
        patch.undo()
    assert (end.value.code, len(done)) == (0, 4)
    later = slow_after(100)
    assert pipeline.infer(settings).read_bytes() == whole
    assert len(later) == 2


# --- an estimate ------------------------------------------------------------------------------


def test_an_estimate_is_for_many_times_the_rows(blended, monkeypatch, capsys, tmp_path):
    settings = blended("blend.fitter=equal")
    speed = {"before": 2.0, "per row": 0.5}
    clock, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed[0])
    timed = []

    def work(self, what, member, fold, rows, *_):
        timed.append((member, fold, len(rows)))
        passed[0] += 1000 * (speed["before"] + speed["per row"] * len(rows))

    monkeypatch.setattr(FoldModels, "_run", work)
    before = seen(tmp_path)
    seconds = pipeline.estimate(settings, 100)
    expected = 6 * 1000 * (2.0 + 0.5 * 800)
    assert seconds == pytest.approx(expected, rel=1e-3)
    # Two members of one backbone and length are timed once, over several batches.
    assert {(member, fold) for member, fold, _ in timed} == {("tiny-max-s42", 0)}
    assert max(n for _, _, n in timed) > 1000
    said = capsys.readouterr().out.splitlines()[-1]
    assert "for 6 fold models and 8 rows; about" in said
    assert said.endswith("for 100 times as many rows")
    with pytest.raises(UserError, match="for 800 rows are above the time limit of 1 h 00 min"):
        pipeline.estimate(settings, 100, limit=3600)
    assert pipeline.estimate(settings, 100, limit=1e9) > 0
    assert seen(tmp_path) == before
    with pytest.raises(UserError, match="--estimate 0: expected"):
        pipeline.estimate(settings, 0)
