"""Space and cuts are chosen on rows they were not fitted on; outputs are weighted alone."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from simulated import AUC, BINARY, F1, LOG_LOSS, matrix

from poolblend.competition.cuts import fit_cuts
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.fitting import (
    Form,
    choose_form,
    cross_fitted,
    fit_blends,
)
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import fit_space
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError

MULTILABEL = Task("multilabel", ("p", "q"))
MACRO = make_scorer("f1_macro", MULTILABEL)
MCRMSE = make_scorer("mcrmse", Task("regression", ("p", "q")))
QWK = make_scorer("qwk", Task("ordinal", ("t",), (0, 1, 2, 3)))
FOLDS = 4


def seen(scorer: Scorer, seed: int = 0, n_rows: int = 160, M: int = 3) -> OofMatrix:
    """Labels, and members that see their signal through noise of their own, ever more of it."""
    rng = np.random.default_rng(seed)
    task = scorer.task
    signal_NK = rng.normal(size=(n_rows, len(task.outputs)))
    noise = np.linspace(0.6, 1.2, M)[:, None, None]
    seen_MNK = signal_NK + noise * rng.normal(size=(M, *signal_NK.shape))
    if task.kind == "regression":
        return matrix(signal_NK + rng.normal(size=signal_NK.shape), seen_MNK, task.outputs)
    if task.kind == "ordinal":
        y = np.digitize(signal_NK[:, 0], [0, 0.8, 1.5])
        return matrix(y, 1.5 + 0.5 * seen_MNK, task.outputs)
    y_NK = (signal_NK + 0.5 * rng.normal(size=signal_NK.shape) > 0.3).astype(np.int64)
    return matrix(y_NK[:, 0] if task.kind == "binary" else y_NK, expit(2 * seen_MNK), task.outputs)


def masks(given: OofMatrix) -> list[np.ndarray]:
    return [given.fold_N == fold for fold in range(FOLDS)]


class TestWeightsPerOutput:
    names = tuple(name for name in BLENDERS if name != "optuna")

    @pytest.mark.parametrize("space", ["plain", "rank"])
    @pytest.mark.parametrize("scorer", [MACRO, MCRMSE], ids=lambda scorer: scorer.name)
    def test_are_those_of_each_output_alone(self, scorer: Scorer, space: str) -> None:
        given, form = seen(scorer), Form(space, cuts=scorer is MACRO)
        thresholds = "fitted" if form.cuts else "default"
        options = Blend(weights="per_output", thresholds=thresholds)
        together = fit_blends(self.names, given, scorer, options, form=form)
        for k, output in enumerate(given.outputs):
            y = given.y[:, k] if scorer is MACRO else given.y[:, [k]]
            alone = matrix(y, given.oof_MNK[:, :, [k]], (output,))
            each = fit_blends(
                self.names, alone, scorer.of_output(k), Blend(thresholds=thresholds), form=form
            )
            for name in self.names:
                mine, theirs = each[name].mixture, together[name].mixture
                np.testing.assert_allclose(theirs.weights_MK[:, [k]], mine.weights_MK, atol=1e-12)
                np.testing.assert_allclose(theirs.intercept_K[[k]], mine.intercept_K, atol=1e-12)
                np.testing.assert_allclose(
                    theirs.apply(given.oof_MNK)[:, [k]], mine.apply(alone.oof_MNK), atol=1e-12
                )
                if form.cuts:
                    np.testing.assert_allclose(theirs.cuts[[k]], mine.cuts, atol=1e-12)

    @pytest.mark.parametrize(
        ("metric", "task"),
        [
            ("f1_micro", MULTILABEL),
            ("accuracy", MULTILABEL),
            ("log_loss", Task("multiclass", ("t",), ("x", "y"))),
        ],
    )
    def test_are_refused_for_a_metric_that_is_no_mean_over_outputs(
        self, metric: str, task: Task
    ) -> None:
        given = seen(MACRO)
        if task.kind == "multiclass":
            oof_MNK = given.oof_MNK / given.oof_MNK.sum(axis=2, keepdims=True)
            given = replace(given, y=given.y[:, 0], oof_MNK=oof_MNK, outputs=task.outputs)
        message = f"{metric} of a {task.kind} task is not a mean over its outputs"
        with pytest.raises(UserError, match=re.escape(message)) as refusal:
            fit_blends(["equal"], given, make_scorer(metric, task), Blend(weights="per_output"))
        assert "\n" not in str(refusal.value)


class TestTheForm:
    @pytest.mark.parametrize("seed", range(4))
    def test_is_logits_where_members_see_log_odds_through_noise(self, seed: int) -> None:
        """Averaged probabilities of noisy log odds are too near one half; averaged log odds not."""
        rng = np.random.default_rng(seed)
        logits_N = 4 * rng.normal(size=1600)
        y = (rng.random(1600) < expit(logits_N)).astype(np.int64)
        given = matrix(y, expit(logits_N + 4 * rng.normal(size=(30, 1600)))[:, :, None])
        assert choose_form(given, LOG_LOSS, Blend()) == Form("logit", cuts=False)

    @pytest.mark.parametrize("seed", range(4))
    def test_fits_cuts_where_positive_labels_are_rare(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        signal_N = rng.normal(size=600)
        y = (rng.random(600) < expit(2 * signal_N - 3)).astype(np.int64)
        given = matrix(y, expit(2 * signal_N - 4 + 0.5 * rng.normal(size=(3, 600)))[:, :, None])
        assert choose_form(given, F1, Blend()).cuts

    @pytest.mark.parametrize("scorer", [F1, AUC, LOG_LOSS, MCRMSE], ids=lambda each: each.name)
    def test_is_mostly_the_plainest_where_nothing_else_is_better(self, scorer: Scorer) -> None:
        plain = []
        for seed in range(8):
            given = seen(scorer, seed, M=2)
            if scorer.task.probabilistic:  # balanced, calibrated, and of one opinion
                rng = np.random.default_rng(seed)
                p_N = rng.uniform(0.1, 0.9, 160)
                y = (rng.random(160) < p_N).astype(np.int64)
                near_MN = np.clip(p_N + 0.02 * rng.normal(size=(2, 160)), 0.02, 0.98)
                given = matrix(y, near_MN[:, :, None])
            plain.append(choose_form(given, scorer, Blend()) == Form("plain", cuts=False))
        assert sum(plain) >= 6

    @pytest.mark.parametrize("scorer", [F1, AUC, QWK], ids=lambda scorer: scorer.name)
    def test_of_some_rows_does_not_see_the_others(self, scorer: Scorer) -> None:
        """What is fitted without a fold is fitted without its labels and predictions."""
        given = seen(scorer)
        rng, held_N = np.random.default_rng(1), given.fold_N == 2
        y, oof_MNK = given.y.copy(), given.oof_MNK.copy()
        y[held_N] = rng.permutation(1 - y[held_N] if scorer is not QWK else y[held_N])
        oof_MNK[:, held_N] = rng.random(oof_MNK[:, held_N].shape)
        options = Blend(trials=5)
        before = fit_blends(list(BLENDERS), given.rows(~held_N), scorer, options)
        poisoned = replace(given, y=y, oof_MNK=oof_MNK).rows(~held_N)
        after = fit_blends(list(BLENDERS), poisoned, scorer, options)
        assert {name: fit.mixture.to_json() for name, fit in before.items()} == {
            name: fit.mixture.to_json() for name, fit in after.items()
        }

    @pytest.mark.parametrize(
        "form", [Form("plain", True), Form("rank", True), Form("logit", False)]
    )
    def test_given_is_obeyed(self, form: Form) -> None:
        given = seen(F1)
        fitted = fit_blends(["equal", "greedy", "stack"], given, F1, Blend(), form=form)
        for name, (mixture, _) in fitted.items():
            assert mixture.space.name == ("logit" if name == "stack" else form.space)
            if form.cuts:
                pred_NK = mixture.apply(given.oof_MNK)
                np.testing.assert_array_equal(mixture.cuts, fit_cuts(F1, given.y, pred_NK))
            else:
                assert mixture.cuts is None

    def test_has_ranks_only_for_order_or_for_cuts_of_their_own(self) -> None:
        """Ranks are no probabilities and no values: neither log loss nor one half fits them."""
        low = replace(seen(F1), oof_MNK=np.array([0.01, 0.01, 1])[:, None, None] * seen(F1).oof_MNK)
        assert choose_form(low, F1, Blend(thresholds="default")).space != "rank"
        assert choose_form(low, LOG_LOSS, Blend()).space != "rank"
        assert choose_form(low, AUC, Blend(space="rank")) == Form("rank", False)
        assert choose_form(low, F1, Blend(space="rank")) == Form("rank", True)


class TestCrossFitted:
    @pytest.mark.parametrize("form", [Form("plain", True), Form("rank", True)])
    @pytest.mark.parametrize("scorer", [F1, MACRO, QWK], ids=lambda scorer: scorer.name)
    def test_decides_each_fold_with_ranks_and_cuts_of_the_rest(
        self, scorer: Scorer, form: Form
    ) -> None:
        given = seen(scorer)
        inputs = cross_fitted(given.oof_MNK, given.y, masks(given), scorer, form)
        assert inputs.shape == given.y.shape
        for held_N in masks(given):
            rest, held = given.oof_MNK[:, ~held_N], given.oof_MNK[:, held_N]
            space = fit_space(form.space, scorer.task.kind, rest)
            cuts = fit_cuts(scorer, given.y[~held_N], space.forward(rest).mean(axis=0))
            wanted = scorer.metric_inputs(space.forward(held).mean(axis=0), cuts)
            np.testing.assert_array_equal(inputs[held_N], wanted)


class TestFits:
    def test_come_simplest_first_and_only_those_asked_for(self) -> None:
        found = fit_blends(["optuna", "convex", "equal"], seen(AUC), AUC, Blend(trials=3))
        assert list(found) == ["equal", "convex", "optuna"]

    def test_of_a_search_start_from_all_simpler_blends_in_its_space(self) -> None:
        given, options = seen(AUC), Blend(trials=4, space="plain")
        search = fit_blends(["optuna"], given, AUC, options)["optuna"].searches[""]
        simpler = [name for name in BLENDERS if name not in ("optuna", "stack")]
        weights = fit_blends(simpler, given, AUC, options)
        assert [trial.source for trial in search] == [*weights, *["search"] * 4]
        for trial in search[: len(weights)]:
            wanted_M = weights[trial.source].mixture.weights_MK[:, 0]
            np.testing.assert_array_equal(trial.weights_M, wanted_M)

    def test_of_each_output_have_a_search_of_their_own_and_share_the_trials(self) -> None:
        options = Blend(trials=6, weights="per_output", space="plain")
        searches = fit_blends(["optuna"], seen(MCRMSE), MCRMSE, options)["optuna"].searches
        assert list(searches) == ["p", "q"]
        for history in searches.values():
            assert [trial.source for trial in history].count("search") == 3


@pytest.mark.parametrize(
    ("metric", "task", "remedy"),
    [
        ("mcrmse", MCRMSE.task, "another blend.space"),
        ("log_loss", BINARY, "another blend.space"),
        ("f1", BINARY, "blend.thresholds=fitted"),
    ],
)
def test_ranks_are_refused_where_more_than_order_counts(
    metric: str, task: Task, remedy: str
) -> None:
    scorer = make_scorer(metric, task)
    given = seen(scorer)
    with pytest.raises(UserError, match=f"but {metric} needs more; use {remedy}"):
        choose_form(given, scorer, Blend(space="rank", thresholds="default"))
