"""How long the folds that are left will take, as the log says it."""

import re

import pytest

from poolblend import config, pipeline
from poolblend.errors import PartlyFailedError
from poolblend.jobs import estimate
from poolblend.printing import duration
from poolblend.training.fit import Fit

TOKENS = {("small", 0): 100, ("small", 1): 100, ("large", 0): 100, ("frozen", 0): 0}


@pytest.fixture
def clock(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(estimate.time, "monotonic", lambda: seconds[0])

    def advance(by):
        seconds[0] += by

    return advance


def test_time_left_is_the_tokens_left_at_the_speed_so_far(clock, caplog):
    caplog.set_level("INFO", logger="poolblend")
    left = estimate.Estimate(TOKENS)
    clock(9999)  # backbones are trained, or other processes are waited for
    left.begin_fold("small", 0, 0.25)  # resumed at the end of an epoch, which is predicted again
    left.after_epoch("small", 0, 0.25)
    clock(30)
    left.after_epoch("small", 0, 0.5)
    clock(60)
    left.after_epoch("small", 0, 1)  # once for each fold
    left.begin_fold("small", 1, 0)
    clock(120)
    left.after_epoch("small", 1, 1)
    left.begin_fold("large", 0, 0)
    clock(600)
    left.after_epoch("large", 0, 0.5)  # its own speed, not the mean
    clock(600)
    left.after_epoch("large", 0, 1)
    left.after_epoch("frozen", 0, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"about {duration(50 * 1.2 + 200 * 1.2)} left for 3 folds",
        f"about {duration(100 * 1.2)} left for 1 fold",
        "about 10 min left for 1 fold",
    ]


def test_workers_share_the_time_left_but_for_one_fold_which_is_one_workers(clock, caplog):
    caplog.set_level("INFO", logger="poolblend")
    left = estimate.Estimate(dict.fromkeys([("a", n) for n in range(4)], 100), workers=2)
    left.begin_fold("a", 0, 0)
    left.begin_fold("a", 1, 0)
    clock(100)
    left.after_epoch("a", 0, 0.5)  # 50 + 100 + 100 + 100 tokens at 2 seconds each
    left.after_epoch("a", 1, 0.5)
    clock(100)
    left.after_epoch("a", 0, 1)
    left.end_fold("a", 0)
    left.begin_fold("a", 2, 0)
    left.end_fold("a", 1)  # it has failed
    left.begin_fold("a", 3, 0.5)
    clock(20)
    left.after_epoch("a", 2, 0.1)  # 90 of its own, which one worker does
    assert [record.getMessage().split(" left")[0] for record in caplog.records] == [
        f"about {duration(350)}",
        f"about {duration(300)}",
        f"about {duration(180)}",
    ]


def test_before_the_first_epoch_it_is_the_tokens_at_the_timed_speeds(clock, caplog):
    caplog.set_level("INFO", logger="poolblend")
    left = estimate.Estimate(TOKENS, {"small": 1.0, "large": 5.0})
    assert left.before() == f"about {duration(700)} for 3 folds"
    left.begin_fold("small", 0, 0)
    clock(200)  # twice as long as by the timed steps, and so will the other members take
    left.after_epoch("small", 0, 1)
    assert caplog.messages == [f"about {duration(200 + 1000)} left for 2 folds"]
    assert estimate.Estimate(TOKENS).before() == ""
    assert estimate.Estimate({("frozen", 0): 0}, {"small": 1.0}).before() == ""


def test_a_member_whose_step_fails_is_told_by_the_rehearsal_alone(toy, monkeypatch, caplog):
    step = Fit.try_step

    def fail(self):
        if type(self.model.pooler).__name__ == "Max":
            raise RuntimeError("no such kernel")
        step(self)

    monkeypatch.setattr(Fit, "try_step", fail)
    settings = config.load(toy(), ["members=[mean,{pooler: max, train: {lr: 1e-4}}]"])
    with caplog.at_level("INFO"), pytest.raises(PartlyFailedError, match="no such kernel"):
        pipeline.train(settings, folds="0")
    (before,) = [line for line in caplog.messages if line.endswith("timed on this machine")]
    assert " for 1 fold, " in before


def test_durations_are_short_texts():
    found = [duration(seconds) for seconds in (0.4, 89, 91, 3599, 3600, 11_100)]
    assert found == ["0 s", "89 s", "2 min", "1 h 00 min", "1 h 00 min", "3 h 05 min"]


def test_training_logs_the_time_left_after_the_first_epoch_of_each_fold(toy, caplog):
    settings = config.load(toy(), ["members=[mean]"])
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(settings, folds="0,1")
    lines = [record.getMessage() for record in caplog.records]
    (before,) = [line for line in lines if line.endswith("timed on this machine")]
    assert re.match("about .* for 2 folds, ", before)
    assert lines.index(before) < min(n for n, line in enumerate(lines) if "epoch 1 of 2" in line)
    left = [line for line in lines if " left for " in line]
    assert [line.split(" left for ")[1] for line in left] == ["2 folds", "1 fold"]
    assert ": epoch 1 of 2: " in lines[lines.index(left[0]) - 1]
