"""A fold that fails for a reason of its own is noted, and the others are trained."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from poolblend import config, pipeline
from poolblend.commands import command_line
from poolblend.errors import PartlyFailedError, Stopped, UserError
from poolblend.jobs.runners import training
from poolblend.loading.competition import open_store
from poolblend.modeling.poolers import POOLERS
from poolblend.store import UnwritableError
from poolblend.training.gradients import Gradients

DIVERGING = {"pooler": "mean", "tag": "wild", "train": {"lr": 1e30, "clip": None, "warmup": 0}}
QUICK = {"train": {"epochs": 1, "batch_size": 16, "lr": 1e-3, "head_lr": 1e-2}}
WILD, NEXT = "tiny-mean-wild-s42", "tiny-max-s42"


@pytest.fixture
def run(toy):
    """Settings and store of a run whose first member's loss becomes NaN."""

    def make(*members, **keys):
        settings = config.load(toy(members=[*(members or (DIVERGING,)), "max"], **QUICK | keys))
        return settings, open_store(settings)

    return make


def finished(store, name, n=3):
    return [fold for fold in range(n) if store.fold(name, fold).card()]


def failing(monkeypatch, error, name=WILD, fold=None):
    """Training a fold of that name, or this one, ends in the error."""
    whole = training.run
    tried = []

    def run(job, context, place):
        if job.member.name == name and fold in (None, job.fold):
            tried.append(job.fold)
            raise error
        whole(job, context, place)

    monkeypatch.setattr(training, "run", run)
    return tried


def test_a_diverging_member_costs_no_other(run, caplog):
    settings, store = run()
    with pytest.raises(PartlyFailedError) as end:
        pipeline.train(settings)
    assert finished(store, WILD) == []
    assert finished(store, NEXT) == [0, 1, 2]
    assert str(end.value).startswith(f"3 of 6 folds: {WILD} fold 0, 1, 2: ")
    assert "lower train.lr" in str(end.value)
    assert "\n" not in str(end.value)
    assert "--skip-failed" in str(end.value)
    assert "Traceback" not in caplog.text
    for fold in range(3):
        note = store.fold(WILD, fold).failure()
        assert "became" in note.reason
        assert note.inputs["settings"]["train"]["lr"] == 1e30
        assert note.written.startswith("20")
        assert len(store.fold(WILD, fold).checkpoints) == 0  # they lead to the same end


def test_a_blend_says_what_failed_where_nothing_else_was_trained(run, tmp_path, monkeypatch):
    settings, store = run()
    failing(monkeypatch, UserError("no luck"))
    failing(monkeypatch, UserError("none at all"), name=NEXT)
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    with pytest.raises(UserError, match="no finished fold of run toy yet") as end:
        pipeline.blend(settings)
    assert f"{WILD} (fold 0, 1, 2: no luck); {NEXT} (fold 0, 1, 2: none at all)" in str(end.value)
    train = pd.read_csv(settings.data_dir / "train.csv")
    outside = train[["id"]].assign(pred_target=np.linspace(0, 1, len(train)))
    (tmp_path / "outside").mkdir()
    outside.to_csv(tmp_path / "outside" / "gbm.csv", index=False)
    pipeline.blend(settings, members_from=str(tmp_path / "outside"))
    left_out = json.loads(store.blend_path.read_text())["left_out"]
    assert {name: "not trained yet (fold" in why for name, why in left_out.items()} == {
        WILD: True,
        NEXT: True,
    }


def test_the_exit_status_is_1_and_the_last_line_says_what_failed(run, capsys):
    settings, _ = run()
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda: pipeline.train(settings))
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("failed: 3 of 6 folds: ")


def test_the_next_run_tries_again_unless_told_not_to(run, monkeypatch, caplog):
    settings, _ = run()
    with monkeypatch.context() as patch:
        failing(patch, UserError("no luck"), fold=1)
        with pytest.raises(PartlyFailedError):
            pipeline.train(settings, poolers="max,mean", skip_failed=False)
    with monkeypatch.context() as patch:
        tried = failing(patch, UserError("no luck"), fold=1)
        pipeline.train(settings, folds="1", skip_failed=True)
        assert tried == []
        assert "1 folds that failed before are left out" in caplog.text
        with pytest.raises(PartlyFailedError, match="no luck"):
            pipeline.train(settings, folds="1")
        assert tried == [1]


def test_a_fold_finished_later_is_failed_no_more(toy, monkeypatch):
    settings = config.load(toy())
    store = open_store(settings)
    with monkeypatch.context() as patch:
        failing(patch, UserError("no luck"), NEXT, fold=1)
        with pytest.raises(PartlyFailedError, match="1 of 6 folds: tiny-max-s42 fold 1: no luck"):
            pipeline.train(settings)
    alone = {f: store.fold(NEXT, f).card().files.weights for f in (0, 2)}
    pipeline.train(settings, skip_failed=True)
    assert finished(store, NEXT) == [0, 2]
    pipeline.train(settings)
    assert finished(store, NEXT) == [0, 1, 2]
    assert store.fold(NEXT, 1).failure() is None
    assert {f: store.fold(NEXT, f).card().files.weights for f in (0, 2)} == alone


def test_a_failure_from_other_inputs_counts_no_more(run, toy, capsys):
    settings, store = run()
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    tame = config.load(toy(members=[{**DIVERGING, "train": {"lr": 1e-3}}, "max"], **QUICK))
    pipeline.check(tame)
    shown = " ".join(capsys.readouterr().out.split())
    line = (
        f"unfinished: {WILD} fold 0: failed from other inputs; train.py starts from the beginning"
    )
    assert line in shown
    pipeline.train(tame, skip_failed=True)
    assert finished(store, WILD) == [0, 1, 2]


def test_check_board_and_dry_run_show_it(run, capsys):
    settings, _ = run()
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    capsys.readouterr()
    pipeline.check(settings)
    shown = " ".join(capsys.readouterr().out.split())
    assert "fold models 3 whole, 3 failed" in shown
    assert f"failed: {WILD} fold 0: " in shown
    assert f"{WILD}: not trained yet (fold 0, 1, 2: " in pipeline.board(settings)
    pipeline.dry_run(settings, skip_failed=True)
    shown = capsys.readouterr().out
    assert shown.count("missing, failed before") == 3
    assert "nothing is to be trained" in shown


def test_blend_says_what_it_leaves_out_and_why(run):
    settings, _ = run(folds={"n": 2})
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    blend = pipeline.blend(settings)
    (what,) = blend.card.left_out.values()
    assert what.startswith("is not trained yet (fold 0, 1: ")
    assert what == blend.card.left_out[WILD]
    assert f"Not in this blend: {WILD} is not trained yet (fold 0, 1: " in " ".join(
        str(blend).split()
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("two\nlines"), "two\\nlines"),
        (MemoryError(), "the machine is out of memory"),
        (RuntimeError("a kernel's own words"), "RuntimeError: a kernel's own words"),
        (KeyError("bug"), "KeyError: 'bug'"),
        (OSError("no number: a library's"), "OSError: no number: a library's"),
    ],
)
def test_whatever_ends_one_fold_ends_no_queue(run, monkeypatch, caplog, error, reason):
    settings, store = run()
    failing(monkeypatch, error)
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    assert [store.fold(WILD, fold).failure().reason for fold in range(3)] == [reason] * 3
    assert finished(store, NEXT) == [0, 1, 2]
    foreseen = isinstance(error, UserError | MemoryError)
    assert sum(bool(record.exc_info) for record in caplog.records) == (0 if foreseen else 1)


@pytest.mark.parametrize(
    "error",
    [
        Stopped("stopped", 130),
        KeyboardInterrupt(),
        UnwritableError("could not write it"),
        OSError(28, "No space left on device"),
    ],
)
def test_what_concerns_every_fold_stops_at_once_and_marks_none(run, monkeypatch, error):
    settings, store = run()
    failing(monkeypatch, error)
    with pytest.raises(type(error)):
        pipeline.train(settings)
    assert store.fold(WILD, 0).failure() is None
    assert finished(store, NEXT) == []


def test_a_device_that_is_lost_stops_the_queue(run, monkeypatch):
    from poolblend.jobs import failures

    settings, store = run()
    failing(monkeypatch, RuntimeError("CUDA error: an illegal memory access was encountered"))
    monkeypatch.setattr(failures, "device_works", lambda: False)
    with pytest.raises(UserError, match="the device does not compute any more after .* fold 0"):
        pipeline.train(settings)
    assert "illegal memory access" in store.fold(WILD, 0).failure().reason
    assert finished(store, NEXT) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes."),
    ],
)
def test_memory_too_small_for_one_row_is_the_folds_own_failure(toy, monkeypatch, error):
    settings = config.load(toy())
    store, whole = open_store(settings), Gradients._add_up

    def small(self, parts):
        if isinstance(self.model.pooler, POOLERS["mean"]) and len(self.rows) > 2:
            raise error
        return whole(self, parts)

    monkeypatch.setattr(Gradients, "_add_up", small)
    with pytest.raises(PartlyFailedError, match="out of memory .*set train.gradient_checkpointing"):
        pipeline.train(settings)
    assert finished(store, "tiny-max-s42") == [0, 1, 2]


def test_a_backbone_damaged_during_the_night_fails_its_own_member(toy, tiny_backbone, tmp_path):
    shutil.copytree(tiny_backbone, tmp_path / "second")
    members = [{"pooler": "mean", "backbone": str(tmp_path / "second")}, "max"]
    settings = config.load(toy(members=members))
    store = open_store(settings)
    weights = tmp_path / "second" / "model.safetensors"
    broken = {name: torch.full_like(t, torch.nan) for name, t in load_file(weights).items()}
    save_file(broken, weights, {"format": "pt"})
    with pytest.raises(PartlyFailedError, match=r"second-mean-s42 fold 0, 1, 2: .*not finite"):
        pipeline.train(settings)
    assert finished(store, NEXT) == [0, 1, 2]


def test_a_note_that_is_damaged_is_none(run):
    settings, store = run()
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    path = store.fold_folder(WILD, 0) / "failed.json"
    shown = json.loads(path.read_text())
    path.write_text(json.dumps(shown | {"reason": "another"}))
    assert store.fold(WILD, 0).failure() is None
    path.write_text("{")
    assert store.fold(WILD, 0).failure() is None


def test_what_another_process_failed_meanwhile_is_not_tried_again(run, monkeypatch):
    settings, store = run()
    whole, tried, moments = training.run, [], itertools.count()

    def run_job(job, context, place):
        if job.member.name == WILD:
            tried.append(job.fold)
            if job.fold == 0:  # as another process would, which has the others
                for other in (1, 2):
                    theirs = job.model_copy(update={"fold": other})
                    theirs.note_failure(store, f"theirs {next(moments)}")
            raise UserError("mine")
        whole(job, context, place)

    monkeypatch.setattr(training, "run", run_job)
    with pytest.raises(PartlyFailedError, match="3 of 6 folds"):
        pipeline.train(settings)
    assert tried == [0]
    tried.clear()
    with pytest.raises(PartlyFailedError):  # another command: once more each
        pipeline.train(settings)
    assert tried == [0]
