"""`train.py --dry-run`: what would be trained, on how many tokens; nothing is written."""

import numpy as np
import pytest

from poolblend import config, pipeline
from poolblend.competition import demo
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.dataset import Datasets
from poolblend.loading.models import check_members
from poolblend.training.fit import Fit


@pytest.fixture
def printed(capsys):
    def lines(settings, **chosen):
        pipeline.dry_run(settings, **chosen)
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return lines


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fold_lines(lines):
    return [line.split() for line in lines if line[:1].isdigit() and "folds are" not in line]


def test_folds_rows_and_tokens_are_printed_in_order_and_nothing_is_written(toy, printed, tmp_path):
    sets = ["max_length=8", "members=[mean,max,{pooler: min, max_length: 12}]"]
    settings = config.load(toy(), sets)
    before = everything(tmp_path)
    lines = printed(settings, folds="2,0")
    assert everything(tmp_path) == before
    assert not (tmp_path / "store").exists()
    folds = fold_lines(lines)
    names = ["tiny-mean-s42", "tiny-max-s42", "tiny-min-s42"]
    assert [line[1:3] for line in folds] == [[name, fold] for name in names for fold in "20"]
    assert "6 folds are to be trained" in lines

    members, store = settings.resolve_members(), open_store(settings)
    competition = load_competition(settings, store, make_folds=True)
    datasets = Datasets(settings, competition, store)
    encoded = datasets.encode(members[0], check_members(settings, members)[names[0]])
    rows, lengths = np.flatnonzero(competition.fold_N != 2), encoded.lengths_N
    tokens = settings.train.epochs * lengths[rows].sum()
    assert folds[0][3:] == [str(len(rows)), f"{tokens:,}", "missing"]
    text = " ".join(lines)
    assert text.count("tokens of") == 2
    assert (
        f"tokens of tiny-mean-s42, tiny-max-s42: {lengths.mean():.0f} on average, median "
        f"{np.median(lengths):.0f}, 95 % up to {np.quantile(lengths, 0.95):.0f}, longest 8; "
        f"{100 * encoded.n_truncated / len(lengths):.1f} % of the texts are cut at max_length 8"
    ) in text
    assert text.count("of the training batches is padding") == 2


def test_the_state_of_each_fold_is_printed(toy, printed, monkeypatch):
    path = toy()
    settings = config.load(path, ["checkpoints.steps=1", "members=[mean]"])
    pipeline.train(settings, folds="0")
    train_step = Fit._train_step

    def stop_at_step_3(self, *args):
        if self.steps_done == 3:
            raise KeyboardInterrupt
        train_step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_train_step", stop_at_step_3)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(settings, folds="1")
    before = everything(open_store(settings).root)
    states = [" ".join(line[5:]) for line in fold_lines(printed(settings))]
    assert states == ["finished", "checkpoint at step 3", "missing"]
    assert everything(open_store(settings).root) == before

    stale = config.load(path, ["members=[mean]", "train.lr=0.002"])
    lines = printed(stale, folds="0")
    assert "nothing is to be trained" in lines
    assert "train.lr was 0.001, is 0.002" in " ".join(lines)
    assert "1 fold is to be trained" in printed(stale, folds="0", overwrite=True)


def test_windows_frozen_encoders_and_members_that_fail_are_told(toy, printed, monkeypatch):
    sets = ["max_length=8", "windows={overlap: 2}", "train.precision=fp32"]
    sets += ["members=[mean,{pooler: max, head: ridge}]"]
    settings = config.load(toy("regression"), sets)
    step = Fit.try_step

    def fail_for_mean(self):
        step(self)
        if type(self.model.pooler).__name__ == "Mean":
            raise RuntimeError("no such kernel")

    monkeypatch.setattr(Fit, "try_step", fail_for_mean)
    lines = printed(settings, folds="0")
    text = " ".join(lines)
    assert "windows per text" in text
    assert fold_lines(lines)[1][4] == "0"
    assert "tiny-mean-s42 cannot be trained: " in text
    assert "no such kernel" in text


def test_the_demo_is_not_made_where_it_is_absent(
    tmp_path, printed, tiny_backbone, toy_frame, monkeypatch
):
    frame = toy_frame("multiclass", 30).rename(columns={"target": "library"})
    frame.insert(0, "id", [f"r{i}" for i in range(30)])
    whole, labels = frame[:20], frame[["id", "library"]][20:]
    tables = {"train": whole, "test": frame[["id", "text"]][20:], "test_labels": labels}
    monkeypatch.setattr(demo, "build_demo", lambda: tables | {"sample_submission": labels})
    sets = [f"store={tmp_path}", f"data.dir={tmp_path / 'demo'}", f"backbone={tiny_backbone}"]
    sets += ["train.freeze_layers=0"]  # the tiny encoder has fewer layers than the default freezes
    lines = printed(config.load(None, sets), poolers="mean", folds="0")
    assert fold_lines(lines)[0][1] == "tiny-mean-s42"
    assert list(tmp_path.iterdir()) == []
