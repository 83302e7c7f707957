"""The floor that fine-tuning must clear: TF-IDF with a linear model, in the run's own folds.

  python benchmarks/floor.py
  python benchmarks/floor.py --config configs/disaster-tweets.yaml --set data.dir=~/data/tweets

Words and pairs of words, logistic regression (ridge for regression), nothing tuned; scored out of
fold over all rows, with a 95 % bootstrap interval. The folds are the store's, so train one first.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

import bench  # noqa: F401 - puts the library on the path
from poolblend import config
from poolblend.competition.tasks import Task
from poolblend.competition.templates import text_columns
from poolblend.ensembling.resampling import bootstrap
from poolblend.loading.competition import CompetitionTables, load_competition, open_store


def main() -> None:
    settings = config.load(*arguments(__doc__))
    competition = load_competition(settings, open_store(settings))
    y, scorer = competition.y, competition.scorer
    pred_NK = out_of_fold(competition, settings.data.text, competition.fold_N)
    sign = -1 if scorer.better == "max" else 1
    inputs = scorer.metric_inputs(pred_NK)
    score = scorer.score_inputs(y, inputs, competition.fold_N)
    losses_R = bootstrap(y, [inputs], scorer, fold_N=competition.fold_N)[0]
    low, high = np.quantile(sign * losses_R, [0.025, 0.975])
    print(
        f"TF-IDF + linear model, {len(y)} rows in {competition.n_folds} folds: "
        f"{scorer.name} {score:.4f} (95 % interval {low:.4f} to {high:.4f})"
    )


def arguments(doc: str | None) -> tuple[str | None, list[str]]:
    """The config file and the settings given on the command line."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    return args.config, args.set


def out_of_fold(read: CompetitionTables, text: list[str], fold_N: np.ndarray) -> np.ndarray:
    """Each row's prediction (N, K) by the model that has not seen the row's fold.

    The cells of several text columns, or of a template's, are joined with spaces.
    """
    columns = [read.tables.train[column].tolist() for column in text_columns(text)]
    texts = np.array([" ".join(row) for row in zip(*columns, strict=True)], dtype=object)
    y, task = read.task.training_targets(read.y), read.task
    pred_NK = np.zeros((len(y), len(task.outputs)))
    for fold in range(int(fold_N.max()) + 1):
        held = fold_N == fold
        model = _linear_model(task).fit(texts[~held], y[~held])
        if not task.probabilistic:
            pred_NK[held] = model.predict(texts[held]).reshape(held.sum(), -1)
            continue
        found = model.predict_proba(texts[held])
        if task.kind == "multiclass":  # a class may be absent from the other folds
            pred_NK[np.ix_(held, model.classes_)] = found
        else:
            pred_NK[held] = found[:, 1:] if task.kind == "binary" else found
    return pred_NK


def _linear_model(task: Task):
    logistic = LogisticRegression(C=3, max_iter=1000)
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        {
            "binary": logistic,
            "multiclass": logistic,
            "multilabel": OneVsRestClassifier(logistic),
            "regression": Ridge(alpha=1.0),
            "ordinal": Ridge(alpha=1.0),
        }[task.kind],
    )


if __name__ == "__main__":
    main()
