"""Laws of what is tried before anything is trained: metrics with no value, folds with no rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from poolblend.errors import UserError
from poolblend.loading.competition import open_store, read_tables, try_folds
from rig.tables import Toy


def folds_of(settings, fold_N):
    """Freeze these folds, as a file from elsewhere would."""
    ids = pd.read_csv(settings.data_dir / "train.csv")["id"]
    path = open_store(settings).folds_path
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": ids, "fold": fold_N}).to_csv(path, index=False)


class TestMetrics:
    def test_a_label_without_any_positive_is_refused_as_the_tables_are_read(self, tmp_path):
        toy = Toy(tmp_path, "multilabel", metric="roc_auc_macro")
        toy.change("train", nasty=0)
        with pytest.raises(
            UserError, match=r"train.csv: roc_auc_macro of 'nasty' is undefined on "
        ):
            read_tables(toy.settings())
        read_tables(toy.settings("metric=f1_macro"))  # 0 where nothing is positive

    @pytest.mark.parametrize(
        ("task", "metric", "columns"),
        [
            ("regression", "spearman", {"b": 2.0}),
            ("regression", "pearson", {"a": 2.0}),
            ("multiclass", "roc_auc_macro", {}),
        ],
    )
    def test_so_is_a_constant_value_and_a_class_that_no_row_has(
        self, tmp_path, task, metric, columns
    ):
        toy = Toy(tmp_path, task, metric=metric)
        toy.change("train", **columns)
        sets = ["data.classes=[good, bad, odd, none]"] if task == "multiclass" else []
        with pytest.raises(UserError, match=rf"{metric} of '.*' is undefined on these 60 rows"):
            read_tables(toy.settings(*sets))

    def test_folds_without_a_value_are_named_in_one_line(self, tmp_path, caplog):
        toy = Toy(tmp_path, metric="roc_auc")
        toy.change(
            "train", target=np.r_[np.ones(20), np.tile([0, 1], 12), np.zeros(16)].astype(int)
        )
        settings = toy.settings("folds.n=4")
        folds_of(settings, np.arange(60) // 15)
        try_folds(toy.load("folds.n=4"))
        warnings = [record.getMessage() for record in caplog.records]
        assert warnings == [
            "roc_auc has no value on the rows of folds 0, 3: roc_auc of 'target' is undefined on "
            "these 15 rows: all rows are of one class"
        ]

    def test_a_fold_that_holds_all_of_a_class_is_refused(self, tmp_path):
        toy = Toy(tmp_path, metric="roc_auc")
        toy.change("train", target=np.r_[np.ones(10), np.zeros(50)].astype(int))
        folds_of(toy.settings(), np.arange(60) // 20)
        with pytest.raises(
            UserError, match=r"without fold 0 roc_auc of .* no blend could be fitted"
        ):
            try_folds(toy.load())
        try_folds(toy.load("metric=f1"))


class TestWeights:
    def test_a_fold_whose_models_would_have_no_row_is_refused(self, tmp_path):
        toy = Toy(tmp_path)
        toy.change("train", worth=np.r_[np.ones(20), np.zeros(40)])
        folds_of(toy.settings(), np.arange(60) // 20)
        with pytest.raises(UserError, match="data.weight is 0 in all rows outside fold 0, so its "):
            try_folds(toy.load("data.weight=worth"))
        try_folds(toy.load())
