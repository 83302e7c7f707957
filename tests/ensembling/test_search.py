"""The search: what it starts from, where it goes, and what it tells."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest

from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.blenders.search import sampler
from poolblend.ensembling.problem import LEAST_SHARE, BlendFit, StudyFile, equal_weights
from poolblend.ensembling.study import Scored
from poolblend.errors import UserError

SIMPLER = [name for name in by_simplicity() if name not in ("stack", "optuna")]
search = BLENDERS["optuna"]


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss", "mcc"])
def test_it_is_never_below_a_simpler_blend_and_tells_every_loss(searchable, metric):
    problem = searchable(metric)
    fit = search(problem)
    losses = [trial.loss for trial in fit.history]
    assert [trial.source for trial in fit.history] == SIMPLER + ["search"] * problem.trials
    for name, trial in zip(SIMPLER, fit.history, strict=False):
        np.testing.assert_array_equal(trial.weights_M, BLENDERS[name](problem).weights_M)
    assert losses == [problem.loss(np.array(trial.weights_M)) for trial in fit.history]
    assert [trial.best for trial in fit.history] == np.minimum.accumulate(losses).tolist()
    assert [trial.number for trial in fit.history] == list(range(len(losses)))
    assert tuple(fit.weights_M) == fit.history[losses.index(min(losses))].weights_M


@pytest.mark.parametrize("metric", ["f1", "roc_auc"])
def test_it_finds_more_than_it_started_from(searchable, metric):
    history = search(searchable(metric, n_members=12)).history
    assert history[-1].best < min(trial.loss for trial in history[: len(SIMPLER)])


def test_fits_made_already_are_its_starts_and_are_not_made_again(searchable, monkeypatch):
    corner = BlendFit(np.array([0.0, 0.0, 1.0, 0.0]))
    problem = searchable(starts={"convex": corner, "stack": BlendFit(np.full(4, 9.0))})

    def refit(_):
        raise AssertionError("convex was fitted again")

    monkeypatch.setitem(BLENDERS._entries, "convex", replace(BLENDERS["convex"], fit=refit))
    with pytest.raises(AssertionError, match="fitted again"):
        search(replace(problem, starts={}))
    starts = search(problem).history[: len(SIMPLER)]
    assert starts[SIMPLER.index("convex")].weights_M == tuple(corner.weights_M)


def test_of_equal_scores_the_simpler_blend_wins(searchable):
    alike = searchable()
    alike.z_MNK[:] = alike.z_MNK[0]
    np.testing.assert_array_equal(search(alike).weights_M, equal_weights(4))


def test_no_trial_has_a_weight_between_zero_and_the_floor(searchable):
    history = search(searchable(n_members=12, trials=300)).history
    weights = np.array([trial.weights_M for trial in history if trial.source == "search"])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert ((weights == 0) | (weights >= LEAST_SHARE / 12)).all()
    assert (weights == 0).any()
    assert (weights > 0).sum(axis=1).min() > 1


def test_a_seed_repeats_and_another_differs(searchable):
    problem = searchable()
    assert search(problem).history == search(problem).history
    assert search(problem).history != search(replace(problem, seed=7)).history


def test_where_no_weights_have_a_score_the_plainest_are_kept(searchable):
    problem = searchable("roc_auc")
    nowhere = replace(problem, y=np.zeros_like(problem.y))
    fit = search(nowhere)
    assert {trial.loss for trial in fit.history} == {math.inf}
    np.testing.assert_array_equal(fit.weights_M, equal_weights(4))


def test_it_is_quiet_leaves_the_log_level_alone_and_ticks_once_per_trial(
    searchable, monkeypatch, tmp_path
):
    said, ticks = [], []
    logger = logging.getLogger("optuna")
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    monkeypatch.setattr(logger.handlers[0], "handle", said.append)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.create_study()
    assert len(said) == 1
    file = StudyFile(tmp_path / "study.log", "all rows")
    for study, trials, ticked in [
        (None, 7, 7),
        (file, 7, 14),
        (file, 7, 21),
        (file, 9, 30),
        (file, 5, 35),
    ]:
        tick = lambda: ticks.append(1)  # noqa: E731
        search(searchable(trials=trials, study=study, progress=tick))
        assert len(ticks) == ticked
    assert len(said) == 1
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    optuna.logging.set_verbosity(before)


def test_a_missing_cmaes_is_said_in_one_line(searchable, monkeypatch):
    monkeypatch.setattr("poolblend.ensembling.blenders.search.find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs the package cmaes: pip install cmaes"):
        search(searchable())


class TestSampler:
    start = Scored("equal", equal_weights(4), 0.5)

    def test_it_begins_near_the_best_start_with_steps_of_a_tenth_of_an_equal_share(self):
        ask, tell = sampler(self.start, 0)
        moved = []
        for _ in range(200):
            moved.append(4 * (ask() - 0.25))
            tell(1.0)  # no direction is better, so the steps stay as they are
        assert np.abs(np.mean(moved, axis=0)).max() < 0.2
        assert 0.04 < np.std(moved[:20]) < 0.2

    def test_it_moves_to_where_the_loss_is_least(self):
        goal_M = np.array([0.3, 0.2, 0.28, 0.22])
        ask, tell = sampler(self.start, 0)
        for _ in range(300):
            last_M = ask()
            tell(float(np.square(last_M - goal_M).sum()))
        np.testing.assert_allclose(last_M, goal_M, atol=0.005)

    def test_dropped_members_come_back_only_above_the_floor(self):
        ask, tell = sampler(Scored("best", np.array([0.5, 0.5, 0.0, 0.0]), 0.5), 0)
        for _ in range(50):
            weights_M = ask()
            tell(1.0)
            assert ((weights_M == 0) | (weights_M >= LEAST_SHARE / 4)).all()
            assert weights_M.sum() == pytest.approx(1)
