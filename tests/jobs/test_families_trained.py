"""Fold models of families that need care: trained, kept, and the same again at inference."""

import numpy as np
import pytest

from poolblend import config, pipeline
from poolblend.loading.competition import load_competition, open_store
from rig import toys
from rig.families import write_family
from rig.fold_models import fold_models

pytestmark = pytest.mark.usefixtures("_imported")


@pytest.mark.parametrize(
    ("name", "reads_padding", "keys"),
    [
        ("convbert", True, {}),
        ("convbert", True, {"max_length": 6, "windows": {"overlap": 1}, "batch_tokens": 12}),
        ("bart", False, {}),
        ("t5", False, {"train": {"lora": {"r": 2}, "epochs": 1, "gradient_checkpointing": True}}),
    ],
)
def test_a_row_is_predicted_alone_as_it_was_beside_others(
    tmp_path, tiny_backbone, name, reads_padding, keys
):
    write_family(tmp_path / name, name, tiny_backbone)
    quick = {"train": {"epochs": 1, "batch_size": 8}, "folds": {"n": 2}}
    members = ["mean", {"pooler": "mean", "head": "logistic"}]
    path = toys.write_toy(
        tmp_path, tmp_path / name, n=24, n_test=4, **{**quick, "members": members, **keys}
    )
    settings = config.load(path)
    pipeline.train(settings)
    store = open_store(settings)
    competition = load_competition(settings, store)
    train = competition.tables.train.set_index("id", drop=False)
    for member in (f"{name}-mean-s42", f"{name}-mean-logistic-s42"):
        assert store.fold(member, 0).card().reads_padding == reads_padding
        oof = store.fold(member, 0).oof()
        rows = train.loc[oof["id"]]
        models = fold_models(settings, store, rows, "train")
        for batch_tokens in (1, 8192):
            models.batch_tokens = batch_tokens
            pred_NK = models.predict(member, 0, np.arange(len(rows)))
            np.testing.assert_allclose(pred_NK[:, 0], oof["pred_target"], rtol=0, atol=1e-6)


def test_texts_of_very_many_windows_are_counted_in_the_log(toy, caplog):
    keys = {"max_length": 6, "batch_tokens": 12, "windows": {"overlap": 1}}
    settings = config.load(toy(n=24, folds={"n": 2}, members=["mean"], **keys))
    with caplog.at_level("INFO"):
        pipeline.train(settings)
    (line,) = (text for text in caplog.messages if "have more than 2 windows" in text)
    assert line.startswith("train: ")
    assert "batch_tokens=12" in line
    assert "windows.most" in line
