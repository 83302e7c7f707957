"""A finished search as an Optuna study, and which weights its scores depended on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from poolblend.ensembling.problem import SEARCH, Trial

if TYPE_CHECKING:
    import optuna

FEWEST_FOR_IMPORTANCE = 20


def make_study(
    trials: Sequence[Trial],
    members: Sequence[str],
    better: str = "min",
    *,
    name: str | None = None,
    storage: optuna.storages.BaseStorage | None = None,
) -> optuna.Study:
    """An Optuna study, in memory or in `storage`: each trial's weights by member, and its score.

    For a metric whose `better` is "max" the losses are turned back into scores. A trial without a
    score has failed.
    """
    import optuna

    share = optuna.distributions.FloatDistribution(0, 1)
    states = optuna.trial.TrialState
    direction: Literal["maximize", "minimize"] = "maximize" if better == "max" else "minimize"
    with quiet_optuna():
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
    for trial in trials:
        scored = math.isfinite(trial.loss)
        value = -trial.loss if better == "max" else trial.loss
        study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if scored else states.FAIL,
                value=value if scored else None,
                params=dict(zip(members, trial.weights_M, strict=True)),
                distributions=dict.fromkeys(members, share),
                user_attrs={"source": trial.source},
            )
        )
    return study


def importances(
    history: Sequence[Trial], members: Sequence[str], seed: int = 42
) -> dict[str, float]:
    """How much of the differences between a search's losses each weight explains, most first.

    Optuna's mean decrease of impurity; empty where there are too few trials or all score alike.
    """
    import optuna

    searched = [trial for trial in history if trial.source == SEARCH and math.isfinite(trial.loss)]
    losses = [trial.loss for trial in searched]
    if len(searched) < FEWEST_FOR_IMPORTANCE or min(losses) == max(losses):
        return {}
    evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=seed)
    study = make_study(searched, members)
    with quiet_optuna():
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna logs only warnings inside this context."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
