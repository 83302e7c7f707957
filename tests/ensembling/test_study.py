"""A finished search is a study that Optuna reads; its importances are Optuna's."""

import numpy as np
import optuna
import pytest

from poolblend.ensembling import study
from poolblend.ensembling.problem import Trial
from poolblend.ensembling.study import importances, make_study


def history(losses, weights, source="search"):
    return tuple(
        Trial(number, source, loss, loss, tuple(row))
        for number, (loss, row) in enumerate(zip(losses, weights, strict=True))
    )


@pytest.mark.parametrize(("better", "sign"), [("max", -1), ("min", 1)])
def test_a_study_holds_scores_and_weights_under_the_members_names(better, sign):
    trials = history([-0.5, np.inf, -0.7], np.eye(3).tolist(), "equal")
    found = make_study(trials, ("ü a", "b", "c"), better, name="all rows")
    assert found.study_name == "all rows"
    assert found.direction.name == f"{better}imize".upper()
    read = found.get_trials()
    assert [trial.state.name for trial in read] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert [trial.value for trial in read] == [sign * -0.5, None, sign * -0.7]
    assert read[1].params == {"ü a": 0.0, "b": 1.0, "c": 0.0}
    assert {trial.user_attrs["source"] for trial in read} == {"equal"}
    assert {trial.number for trial in read} == {0, 1, 2}
    assert not any(trial.system_attrs for trial in read)


def test_the_member_that_decides_comes_first_as_in_optuna():
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 80)
    losses = ((weights[:, 2] - 0.3) ** 2).tolist()
    found = importances(history(losses, weights), "abcd", seed=1)
    assert next(iter(found)) == "c"
    assert found["c"] > 0.9
    assert sum(found.values()) == pytest.approx(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = optuna.create_study()
    share = dict.fromkeys("abcd", optuna.distributions.FloatDistribution(0, 1))
    for loss, row in zip(losses, weights.tolist(), strict=True):
        params = dict(zip("abcd", row, strict=True))
        theirs.add_trial(optuna.trial.create_trial(params=params, distributions=share, value=loss))
    evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=1)
    reference = optuna.importance.get_param_importances(theirs, evaluator=evaluator)
    assert found == pytest.approx(reference, abs=0.02)


def test_importances_need_enough_trials_of_the_search_that_differ():
    weights = np.random.default_rng(0).dirichlet(np.ones(2), 50)
    losses = weights[:, 0].tolist()
    few = study.FEWEST_FOR_IMPORTANCE - 1
    for trials in (
        (),
        history(losses[:few], weights[:few]),
        history([0.5] * 50, weights),
        history([np.inf] * 50, weights),
        history(losses, weights, "equal"),
    ):
        assert importances(trials, "ab") == {}
    scored = history([*losses[:40], *[np.inf] * 10], weights)
    starts = history(losses, weights, "greedy")
    assert importances(starts + scored, "ab") == importances(scored, "ab")
    assert set(importances(scored, "ab")) == {"a", "b"}
