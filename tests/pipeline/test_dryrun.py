"""`train.py --dry-run`: what would be trained, on how many tokens; nothing is written."""

import numpy as np
import pytest

from poolblend import config, pipeline
from poolblend.competition import demo
from poolblend.jobs.probing import Pace, Work, plan_work, try_out
from poolblend.jobs.trainer import Trainer
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import check_members
from poolblend.pipeline import dryrun
from poolblend.printing import duration
from poolblend.training.batches import collate, prediction_batches
from poolblend.training.fit import Fit
from poolblend.training.recipes import extra_pass_from

MEMBER = "tiny-mean-s42"


@pytest.fixture
def tried(monkeypatch):
    """Members are not tried: each token of a step is said to take a second; those asked for."""
    asked = []

    def pace(trainer, member, fold, work):
        asked.append(member.name)
        return Pace(begin=0, plain=1, adversarial=2, predicting=0)

    monkeypatch.setattr(dryrun, "try_out", pace)
    return asked


@pytest.fixture
def told(capsys):
    def lines(settings, **chosen):
        pipeline.dry_run(settings, **chosen)
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    return lines


def fresh(settings, fold=0):
    """A training of the config's first member as it begins."""
    store = open_store(settings)
    members = settings.resolve_members()
    competition = load_competition(settings, store, make_folds=True)
    located = check_members(settings, members)
    return Trainer(settings, competition, store, located, Watch()).fresh(members[0], fold)


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_jobs_are_told_in_order_and_nothing_is_written(toy, told, tmp_path):
    settings = config.load(toy())
    before = everything(tmp_path)
    lines = told(settings, folds="2,0")
    assert everything(tmp_path) == before
    assert not (tmp_path / "store").exists()
    jobs = [line[1:3] for line in lines if line and line[0].isdigit()]
    assert jobs == [[f"tiny-{p}-s42", fold] for p in ("mean", "max") for fold in ("2", "0")]
    fit = fresh(settings)
    assert [str(len(fit.rows)), str(fit.n_steps), "missing"] in [line[3:] for line in lines]
    assert any(line[:1] == ["about"] and "estimate," in line for line in lines)


def test_each_fold_is_told_as_it_stands(toy, told, tried, monkeypatch):
    settings = config.load(toy(), ["checkpoints.steps=1", "members=[mean]"])
    pipeline.train(settings, folds="0")
    once = Fit._train_step

    def until_third(self, *args):
        if self.steps_done == 3:
            raise KeyboardInterrupt
        once(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_train_step", until_third)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(settings, folds="1")
    before = everything(open_store(settings).root)
    states = [" ".join(line[5:]) for line in told(settings) if line and line[0].isdigit()]
    assert states == ["finished", "begun, at step 3", "missing"]
    assert everything(open_store(settings).root) == before


def test_stale_folds_are_counted_only_where_they_are_to_be_replaced(toy, told, tried):
    pipeline.train(config.load(toy()), poolers="mean", folds="0")
    settings = config.load(toy(), ["train.lr=0.002"])
    lines = told(settings, poolers="mean", folds="0")
    assert ["nothing", "is", "to", "be", "trained"] in lines
    assert any("train.lr was 0.001, is 0.002" in " ".join(line) for line in lines)
    assert tried == []
    told(settings, poolers="mean", folds="0", overwrite=True)
    assert tried == [MEMBER]


def test_members_that_differ_in_their_seeds_alone_are_tried_once(toy, told, tried):
    told(config.load(toy(), ["seeds=[1,2]"]))
    assert tried == ["tiny-mean-s1", "tiny-max-s1"]


def test_tokens_are_told_once_for_all_members_that_read_them_alike(toy, told, tried):
    settings = config.load(
        toy(), ["max_length=8", "members=[mean,max,{pooler: min, max_length: 12}]"]
    )
    text = " ".join(word for line in told(settings) for word in line)
    ids = fresh(settings).encoded.ids
    lengths = np.array([len(row) for row in ids])
    assert text.count("tokens of") == 2
    assert (
        f"tokens of tiny-mean-s42, tiny-max-s42: {lengths.mean():.0f} on average, median "
        f"{np.median(lengths):.0f}, 95 % up to {np.quantile(lengths, 0.95):.0f}, longest 8; "
    ) in text
    assert "tokens of tiny-min-s42" in text
    cut = fresh(settings).encoded.n_truncated / len(ids)
    assert cut > 0
    assert f"{cut:.1%} of the texts are cut at max_length 8" in text


def test_windows_are_told_where_there_are_any(toy, told, tried):
    settings = config.load(toy(), ["max_length=8", "windows={overlap: 2}", "members=[mean]"])
    assert "windows per text" in " ".join(word for line in told(settings) for word in line)


@pytest.mark.parametrize("mask", ["attention", "none"])
def test_the_planned_tokens_are_those_that_a_training_reads(toy, mask):
    settings = config.load(toy(), [f"mask={mask}", "train.accumulation=2", "train.fgm=1"])
    fit, valid = fresh(settings), np.arange(20)
    whole = mask == "none"
    work = plan_work(
        fit.encoded,
        fit.rows,
        valid,
        fit.options,
        fit.seed,
        full_width=whole,
        batch_tokens=64,
        steps_done=0,
    )
    read = [
        sum(
            collate(fit.encoded, fit.rows[batch], full_width=whole).ids_BT.numel() for batch in step
        )
        for epoch in fit._steps
        for step in epoch
    ]
    assert work.tokens_S.tolist() == read
    assert work.n_steps == fit.n_steps
    assert work.extra_pass_from == extra_pass_from(fit.options, fit.n_steps)
    lengths = np.full(20, 16) if whole else fit.encoded.lengths_N[valid]
    batches = prediction_batches(lengths, 64)
    assert work.predicted_tokens == sum(lengths[b].max() * len(b) for b in batches)


def test_time_grows_with_the_tokens_that_are_left():
    pace = Pace(begin=10, plain=1, adversarial=3, predicting=0.5)
    rows = np.arange(4)
    work = Work(rows, np.array([1, 2, 4, 8, 16, 32]), 2, 0, 4, rows, 100)
    assert pace.of_steps(work) == 1 + 2 + 4 + 8 + 3 * (16 + 32)
    assert pace.of_fold(work) == 10 + pace.of_steps(work) + 0.5 * 100 * 2
    begun = Work(rows, work.tokens_S, 2, 3, 4, rows, 100)
    assert pace.of_steps(begun) == 8 + 3 * (16 + 32)
    assert pace.of_fold(begun) == 10 + pace.of_steps(begun) + 0.5 * 100


def test_a_member_is_tried_on_steps_of_its_own_and_keeps_nothing(toy, tmp_path, monkeypatch):
    settings = config.load(toy(), ["train.awp=0.01", "train.adversarial_start=0.5"])
    fresh(settings)  # makes the folds
    before, steps, once = everything(tmp_path), [], Fit._train_step

    def step(self, *args):
        steps.append(self.steps_done >= extra_pass_from(self.options, self.n_steps))
        once(self, *args)

    monkeypatch.setattr(Fit, "_train_step", step)
    store, members = open_store(settings), settings.resolve_members()
    competition = load_competition(settings, store)
    trainer = Trainer(settings, competition, store, check_members(settings, members), Watch())
    job = dryrun._job(trainer, members[0], 0)
    pace = try_out(trainer, members[0], 0, job.work)
    assert min(pace.begin, pace.plain, pace.adversarial, pace.predicting) > 0
    assert steps == [False] * 6 + [True] * 6  # five of ten steps each, after one that warms up
    assert everything(tmp_path) == before


def test_the_demo_is_not_made_where_it_is_absent(
    tmp_path, told, tried, tiny_backbone, toy_frame, monkeypatch
):
    frame = toy_frame("multiclass", 30).rename(columns={"target": "library"})
    frame.insert(0, "id", [f"r{i}" for i in range(30)])
    whole, labels = frame[:20], frame[["id", "library"]][20:]
    tables = {"train": whole, "test": frame[["id", "text"]][20:], "test_labels": labels}
    monkeypatch.setattr(demo, "build_demo", lambda: tables | {"sample_submission": labels})
    sets = [f"store={tmp_path}", f"data.dir={tmp_path / 'demo'}", f"backbone={tiny_backbone}"]
    lines = told(config.load(None, sets), poolers="mean", folds="0")
    assert any(line[1:2] == [MEMBER] for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_encoder_reads_all_rows_once_for_all_its_folds(toy, told, tried, monkeypatch):
    settings = config.load(toy("regression"), ["members=[{pooler: mean, head: ridge}]"])
    pace = Pace(begin=0, plain=1, adversarial=1, predicting=1)
    monkeypatch.setattr(dryrun, "try_out", lambda *_: pace)
    lines = told(settings)
    assert [line[4] for line in lines if line and line[0].isdigit()] == ["0", "0", "0"]
    (row,) = [line for line in lines if line[1:2] == ["none"]]
    linear = fresh(config.load(toy("regression"), ["members=[mean]"]))
    lengths = linear.encoded.lengths_N
    whole = lengths.max() * len(lengths)  # all rows fit into one batch of predictions
    assert " ".join(row[-2:]) == duration(whole)


def test_durations_are_told_as_people_tell_them():
    told = [duration(seconds) for seconds in (0.4, 89, 91, 3599, 3600, 11_100)]
    assert told == ["0 s", "89 s", "2 min", "1 h 00 min", "1 h 00 min", "3 h 05 min"]


def test_a_frozen_member_is_timed_without_the_runs_recipes(toy, monkeypatch, capsys):
    fresh, tried = Trainer.fresh, []

    def note(self, member, fold):
        tried.append(member.train.lora)
        return fresh(self, member, fold)

    monkeypatch.setattr(Trainer, "fresh", note)
    sets = ["members=[mean, {pooler: mean, head: logistic}]", "train.lora=2", "folds.n=2"]
    pipeline.dry_run(config.load(toy(), sets))
    assert [lora is None for lora in tried] == [False, True]
