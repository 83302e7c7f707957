"""The search: what it starts from, where it goes, and what it tells."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from simulated import BINARY

from poolblend.competition.metrics import make_scorer
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.blenders.search import sampler
from poolblend.ensembling.mixture import Space
from poolblend.ensembling.problem import LEAST_SHARE, BlendFit, BlendProblem, equal_weights
from poolblend.errors import UserError


def searchable(metric="f1", n_members=4, **keys):
    """Members that see one signal through noise of their own, each with more of it.

    The simpler blenders are fitted already, so that the search scores nothing but its own.
    """
    rng = np.random.default_rng(0)
    signal_N1 = rng.normal(size=(200, 1))
    scale_M11 = np.linspace(0.5, 1.5, n_members)[:, None, None]
    seen_MN1 = signal_N1 + scale_M11 * rng.normal(size=(n_members, 200, 1))
    y = (signal_N1[:, 0] + rng.logistic(size=200) > 0).astype(np.int64)
    keys = {"trials": 60, **keys}
    problem = BlendProblem(
        z_MNK=1 / (1 + np.exp(-seen_MN1)),
        y=y,
        fold_N=np.arange(200) % 4,
        scorer=make_scorer(metric, BINARY),
        space=Space("plain", "binary"),
        **keys,
    )
    simpler = by_simplicity()[: by_simplicity().index("stack")]
    fits = {name: BLENDERS[name](problem) for name in simpler if name not in problem.starts}
    return replace(problem, starts={**fits, **problem.starts})


SIMPLER = [name for name in by_simplicity() if name not in ("stack", "optuna")]
search = BLENDERS["optuna"]


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss", "mcc"])
def test_it_is_never_below_a_simpler_blend_and_tells_every_loss(metric):
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
def test_it_finds_more_than_it_started_from(metric):
    history = search(searchable(metric, n_members=12)).history
    assert history[-1].best < min(trial.loss for trial in history[: len(SIMPLER)])


def test_fits_made_already_are_its_starts_and_are_not_made_again(monkeypatch):
    corner = BlendFit(np.array([0.0, 0.0, 1.0, 0.0]))
    problem = searchable(starts={"convex": corner, "stack": BlendFit(np.full(4, 9.0))})

    def refit(_):
        raise AssertionError("convex was fitted again")

    monkeypatch.setitem(BLENDERS._entries, "convex", replace(BLENDERS["convex"], fit=refit))
    with pytest.raises(AssertionError, match="fitted again"):
        search(replace(problem, starts={}))
    starts = search(problem).history[: len(SIMPLER)]
    assert starts[SIMPLER.index("convex")].weights_M == tuple(corner.weights_M)


def test_of_equal_scores_the_simpler_blend_wins():
    alike = searchable()
    alike.z_MNK[:] = alike.z_MNK[0]
    np.testing.assert_array_equal(search(alike).weights_M, equal_weights(4))


def test_no_trial_has_a_weight_between_zero_and_the_floor():
    history = search(searchable(n_members=12, trials=300)).history
    weights = np.array([trial.weights_M for trial in history if trial.source == "search"])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert ((weights == 0) | (weights >= LEAST_SHARE / 12)).all()
    assert (weights == 0).any()
    assert (weights > 0).sum(axis=1).min() > 1


def test_a_seed_repeats_and_another_differs():
    problem = searchable()
    assert search(problem).history == search(problem).history
    assert search(problem).history != search(replace(problem, seed=7)).history


def test_where_no_weights_have_a_score_the_plainest_are_kept():
    problem = searchable("roc_auc")
    nowhere = replace(problem, y=np.zeros_like(problem.y))
    fit = search(nowhere)
    assert {trial.loss for trial in fit.history} == {math.inf}
    np.testing.assert_array_equal(fit.weights_M, equal_weights(4))


def test_it_is_quiet_leaves_the_log_level_alone_and_ticks_once_per_trial(monkeypatch):
    said, ticks = [], []
    logger = logging.getLogger("optuna")
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    monkeypatch.setattr(logger.handlers[0], "handle", said.append)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.create_study()
    assert len(said) == 1
    search(searchable(trials=7, progress=lambda: ticks.append(1)))
    assert len(ticks) == 7
    assert len(said) == 1
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    optuna.logging.set_verbosity(before)


def test_a_missing_cmaes_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr("poolblend.ensembling.blenders.search.find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs the package cmaes: pip install cmaes"):
        search(searchable())


class TestSampler:
    def test_it_moves_to_where_the_loss_is_least(self):
        goal_M = np.array([0.3, 0.2, 0.28, 0.22])
        ask, tell = sampler(equal_weights(4), 0.5, 0)
        for _ in range(300):
            last_M = ask()
            tell(float(np.square(last_M - goal_M).sum()))
        np.testing.assert_allclose(last_M, goal_M, atol=0.005)
