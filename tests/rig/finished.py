"""A finished run, made once and given to each test whole: members trained here and one outside."""

import shutil
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.config import Config
from poolblend.store import Store

SETS = [
    "members=[mean]",
    "folds.n=2",
    "train.epochs=2",
    "blend.fitters=[equal,optuna]",
    "blend.fitter=equal",
    "blend.trials=5",
    "blend.resamples=50",
]
MEMBER = "tiny-mean-s42"


class Run(NamedTuple):
    """The settings of a run, its store, and the folder of its outside members."""

    settings: Config
    store: Store
    outside: str

    def train(self, **chosen):
        pipeline.train(self.settings, **chosen)

    def blend(self):
        return pipeline.blend(self.settings, members_from=self.outside)

    def infer(self):
        return pipeline.infer(self.settings)

    def check(self):
        pipeline.check(self.settings)

    def everything(self):
        """Bytes of all files, by their path in the store."""
        root = self.store.root
        files = (path for path in sorted(root.rglob("*")) if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Where the finished run is kept, and the place that it is copied to: cards hold its path."""
    folder = tmp_path_factory.mktemp("finished")
    return folder / "whole", folder / "run"


@pytest.fixture
def finished(kept, toy, tmp_path, monkeypatch):
    """A finished run, to be damaged at will."""
    from poolblend.loading.competition import open_store
    from poolblend.pipeline import inference

    whole, folder = kept
    path = toy(n=24, n_test=8, metric="log_loss", submission="probabilities")
    shutil.rmtree(folder, ignore_errors=True)
    places = [f"data.dir={folder / 'data'}", f"store={folder / 'store'}"]
    settings = config.load(path, [*SETS, *places])
    run = Run(settings, open_store(settings), str(folder / "outside"))
    clock = _clock()

    monkeypatch.setattr(inference, "now", lambda: next(clock))
    if not whole.exists():
        shutil.copytree(tmp_path / "data", folder / "data")
        _outside(folder)
        run.train()
        run.blend()
        run.infer()
        folder.rename(whole)
    shutil.copytree(whole, folder)
    return run


def _clock():
    """Submissions made within a second would share one date."""
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    while True:
        moment += timedelta(seconds=1)
        yield moment


def _outside(folder):
    """A member from elsewhere: its predictions are the labels, smoothed by the row's number."""
    (folder / "outside" / "test").mkdir(parents=True)
    for source, target in (("train", "gbm.csv"), ("test", "test/gbm.csv")):
        ids = pd.read_csv(folder / "data" / f"{source}.csv")["id"]
        pred = [round(0.2 + 0.6 * (n * 7 % 11) / 11, 6) for n in range(len(ids))]
        table = pd.DataFrame({"id": ids, "pred": pred})
        table.to_csv(folder / "outside" / target, index=False)
