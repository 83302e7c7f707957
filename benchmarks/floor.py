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
from poolblend.competition.tables import join_texts
from poolblend.ensembling.honesty import bootstrap
from poolblend.pipeline.competition import load_competition, open_store


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    settings = config.load(args.config, args.set)
    competition = load_competition(settings, open_store(settings))
    texts = np.array(join_texts(competition.tables.train, settings.data.text, ""), dtype=object)
    y, task, scorer = competition.y, competition.task, competition.scorer

    pred_NK = np.zeros((len(y), len(task.outputs)))
    for fold in range(competition.n_folds):
        held = competition.fold_N == fold
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
            {
                "binary": LogisticRegression(C=3, max_iter=1000),
                "multiclass": LogisticRegression(C=3, max_iter=1000),
                "multilabel": OneVsRestClassifier(LogisticRegression(C=3, max_iter=1000)),
                "regression": Ridge(alpha=1.0),
            }[task.kind],
        )
        model.fit(texts[~held], y[~held])
        if task.kind == "regression":
            pred_NK[held] = model.predict(texts[held]).reshape(held.sum(), -1)
        else:
            probabilities = model.predict_proba(texts[held])
            pred_NK[held] = probabilities[:, 1:] if task.kind == "binary" else probabilities

    sign = -1 if scorer.better == "max" else 1
    low, high = np.quantile(sign * bootstrap(y, [pred_NK], scorer)[0], [0.025, 0.975])
    print(
        f"TF-IDF + linear model, {len(y)} rows in {competition.n_folds} folds: "
        f"{scorer.name} {scorer.score(y, pred_NK):.4f} (95 % interval {low:.4f} to {high:.4f})"
    )


if __name__ == "__main__":
    main()
