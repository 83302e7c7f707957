"""Members chosen within a limit of time: affordable, nearly the best, and scored honestly."""

from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
from simulated import AUC, F1, LOG_LOSS, TASKS, binary_matrix, drawn, matrix

from poolblend.competition.metrics import make_scorer
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.choice import choose
from poolblend.ensembling.contributions import leave_one_out
from poolblend.ensembling.costs import FREE, Budget, Cost, NothingAffordableError
from poolblend.ensembling.fitting import fit_blends
from poolblend.ensembling.honesty import compare, cross_fit, fits_without_folds, fold_masks
from poolblend.ensembling.levels import levels
from poolblend.ensembling.options import Blend

OPTIONS = Blend(trials=8, thresholds="default", space="plain")
SECONDS = (8.0, 4.0, 2.0, 1.0, 1.0)  # the better, the slower


def costs(*seconds):
    return tuple(Cost(each, {}) for each in seconds)


def with_budget(given, limit, seconds=SECONDS):
    return replace(given, budget=Budget(costs(*seconds), limit))


def used(mixture):
    return [int(m) for m in np.flatnonzero(mixture.weights_MK.any(axis=1))]


@pytest.fixture(scope="module")
def five():
    return binary_matrix(3, [0.4, 0.7, 1.0, 1.3, 1.6])


@pytest.mark.parametrize("name", BLENDERS)
@pytest.mark.parametrize("limit", [1.0, 3.5, 6.0])
def test_no_blender_gives_weight_beyond_the_limit(five, name, limit):
    limited = with_budget(five, limit)
    fits = [
        fit_blends([name], limited, LOG_LOSS, OPTIONS),
        *fits_without_folds([name], limited, LOG_LOSS, OPTIONS),
    ]
    for fit in fits:
        assert limited.budget.allows(used(fit[name].mixture))
        assert len(fit[name].mixture.weights_MK) == 5
        for trials in fit[name].searches.values():
            assert {len(trial.weights_M) for trial in trials} == {5}


@pytest.mark.parametrize("kind", TASKS)
def test_fits_of_the_chosen_members_are_those_of_a_matrix_of_them_alone(kind):
    y, oof_MNK = drawn(kind, 1)
    scorer = make_scorer(
        {"regression": "rmse", "ordinal": "qwk"}.get(kind, "log_loss"), TASKS[kind]
    )
    whole = matrix(y, oof_MNK, TASKS[kind].outputs)
    limited = with_budget(whole, 4.0)
    options = OPTIONS.model_copy(update={"space": "rank" if kind == "ordinal" else "plain"})
    options = options.model_copy(update={"thresholds": "auto"})
    fitted = fit_blends(["equal", "convex"], limited, scorer, options)
    kept = used(fitted["equal"].mixture)
    rest = whole.subset([whole.members[m] for m in kept])
    alone = fit_blends(["equal", "convex"], rest, scorer, options)
    for name, fit in fitted.items():
        np.testing.assert_allclose(
            fit.mixture.apply(whole.oof_MNK), alone[name].mixture.apply(rest.oof_MNK), atol=1e-12
        )


def plain_mean_loss(given, members, scorer):
    return scorer.loss(given.y, given.oof_MNK[list(members)].mean(axis=0))


@pytest.mark.parametrize("scorer", [LOG_LOSS, AUC, F1])
@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_nearly_the_best_of_all_sets(scorer, seed):
    rng = np.random.default_rng(seed)
    given = binary_matrix(seed, list(rng.uniform(0.4, 1.6, 6)))
    limited = with_budget(given, 5.0, rng.uniform(0.5, 4.0, 6))
    kept = used(fit_blends(["equal"], limited, scorer, OPTIONS)["equal"].mixture)
    sets = chain.from_iterable(combinations(range(6), n) for n in range(1, 7))
    losses = {s: plain_mean_loss(given, s, scorer) for s in sets if limited.budget.allows(s)}
    better = sum(loss < losses[tuple(kept)] - 1e-12 for loss in losses.values())
    assert better <= 0.05 * len(losses)


def test_a_slow_good_member_does_not_keep_out_quick_ones_that_are_better_together():
    given = binary_matrix(0, [0.9, 1.0, 1.0, 1.0, 1.0], n_rows=2000)
    limited = with_budget(given, 4.0, (4.0, 1.0, 1.0, 1.0, 1.0))
    assert used(fit_blends(["equal"], limited, LOG_LOSS, OPTIONS)["equal"].mixture) == [1, 2, 3, 4]


def test_what_members_share_counts_once():
    given = binary_matrix(0, [1.0] * 5, n_rows=2000)
    shared = {"layer 5": 2.0}
    budget = Budget((Cost(1.0, shared), Cost(1.0, shared), *costs(4.0, 4.0, 4.0)), 4.0)
    kept = used(
        fit_blends(["equal"], replace(given, budget=budget), LOG_LOSS, OPTIONS)["equal"].mixture
    )
    assert kept == [0, 1]
    assert budget.seconds([0, 1]) == 4


def test_honest_scores_are_of_choices_without_the_scored_fold(five):
    """Among members of pure noise, one that is good on a fold alone must not win there."""
    rng = np.random.default_rng(0)
    folds = fold_masks(five)
    oof_MNK = np.full((4, len(five.y), 1), 0.5)
    for m, held_N in enumerate(folds):  # each member knows one fold, and is wrong elsewhere
        oof_MNK[m, :, 0] = np.where(
            held_N, np.where(five.y, 0.9, 0.1), rng.uniform(0.4, 0.6, len(five.y))
        )
    given = with_budget(matrix(five.y, oof_MNK), 1.0, (1.0, 1.0, 1.0, 1.0))
    report = cross_fit("equal", given, LOG_LOSS, OPTIONS)
    assert report.in_sample < report.honest
    for mixture, held_N in zip(report.fold_mixtures, folds, strict=True):
        others = [plain_mean_loss(given.rows(~held_N), [m], LOG_LOSS) for m in range(4)]
        assert used(mixture) == [int(np.argmin(others))]


def test_the_best_single_member_is_the_best_that_the_limit_allows(five):
    comparison = compare(
        with_budget(five, 4.0), LOG_LOSS, OPTIONS.model_copy(update={"fitters": ["convex"]})
    )
    assert used(comparison.reports["best"].mixture) == [1]
    assert choose(comparison, resamples=50).member == "m1"


def test_levels_rise_to_the_blend_without_a_limit(five):
    limited = with_budget(five, 3.5)
    found = levels(limited, LOG_LOSS, OPTIONS, "equal")
    *rising, unlimited = found
    assert [level.limit for level in rising] == sorted(level.limit for level in rising)
    assert len({level.members for level in rising}) == len(rising)
    assert all(level.seconds <= level.limit for level in rising)
    assert 3.5 in [level.limit for level in rising]
    assert unlimited.limit is None
    assert unlimited.members == five.members
    assert unlimited.honest == cross_fit("equal", five, LOG_LOSS, OPTIONS).honest
    assert rising[0].members == ("m3",)
    assert rising[0].seconds == 1


def test_members_that_cost_nothing_are_always_allowed(five):
    budget = Budget((FREE, *costs(4.0, 2.0, 1.0, 1.0)), 1.0)
    kept = used(
        fit_blends(["equal"], replace(five, budget=budget), LOG_LOSS, OPTIONS)["equal"].mixture
    )
    assert 0 in kept
    found = levels(replace(five, budget=budget), LOG_LOSS, OPTIONS, "equal")
    assert found[0].members == ("m0",)


def test_levels_are_of_what_costs_something(five):
    budget = Budget((*costs(4.0, 3.0, 2.0, 1.0), FREE), 1.0)
    found = levels(replace(five, budget=budget), LOG_LOSS, OPTIONS, "equal")
    assert [level.members for level in found[:3]] == [("m4",), ("m3", "m4"), ("m2", "m4")]
    assert ("m0",) in [level.members for level in found]


def test_a_limit_below_every_member_is_refused(five):
    with pytest.raises(NothingAffordableError, match="quickest member takes 1 s a row"):
        fit_blends(["equal"], with_budget(five, 0.5), LOG_LOSS, OPTIONS)
    only = with_budget(five, 1.0, (1.0, 9.0, 9.0, 9.0, 9.0))
    honest = cross_fit("equal", only, LOG_LOSS, OPTIONS).honest_inputs
    table = leave_one_out(only, LOG_LOSS, OPTIONS, "equal", honest, resamples=50)
    assert table["verdict"]["m0"] == "unknown"  # nothing is left without it
    assert table["value"]["m1"] == 0


def test_weights_for_each_output_are_of_the_members_chosen_for_all():
    y, oof_MNK = drawn("regression", 2)
    limited = with_budget(matrix(y, oof_MNK, TASKS["regression"].outputs), 4.0)
    scorer = make_scorer("mcrmse", TASKS["regression"])
    options = OPTIONS.model_copy(update={"weights": "per_output"})
    fit = fit_blends(["convex"], limited, scorer, options)["convex"]
    assert limited.budget.allows(used(fit.mixture))
    np.testing.assert_allclose(fit.mixture.weights_MK.sum(axis=0), 1)
