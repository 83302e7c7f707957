"""Every reader of the store's own files as a function of bytes, one file damaged among whole ones.

The files come from a store made here: a fold model, its checkpoint, and a blend of two outside
members. A card `sealed` again is what another version, or somebody with a purpose, has written.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import torch

from poolblend import config, pipeline
from poolblend.jobs.blend_plan import read_blend
from poolblend.store import Store, read_folds
from rig.cards import checkpoint_card, fold_card
from rig.edited import edit_card

RUN, MEMBER = "fuzzed", "minilm-max-s42"
ROWS = 40
TEST = {"test_sha256": "0" * 64}
Reader = Callable[[bytes, Path], None]


class Tokenizer:
    """What a model folder holds beside the weights."""

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "tokenizer.json").write_text("{}", encoding="utf-8")


def make_store(root: Path) -> None:
    """Fill a store: folds, a fold model, a checkpoint, test predictions, a blend."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, ROWS)
    ids = [f"r{i}" for i in range(ROWS)]
    frame = pd.DataFrame({"id": ids, "text": [f"text {id}" for id in ids], "target": target})
    data, outside = root / "data", root / "outside"
    data.mkdir()
    outside.mkdir()
    frame.to_csv(data / "train.csv", index=False)
    frame[["id", "text"]].to_csv(data / "test.csv", index=False)
    frame[["id", "target"]].to_csv(data / "sample_submission.csv", index=False)
    for name in ("gbm", "knn"):
        pred = np.clip(0.5 + 0.3 * (target - 0.5) + rng.normal(0, 0.2, ROWS), 0.01, 0.99)
        frame.assign(pred=pred)[["id", "pred"]].to_csv(outside / f"{name}.csv", index=False)
    sets = [f"run={RUN}", f"store={root}", f"data.dir={data}", "task=binary", "metric=f1"]
    sets += ["data.demo=false", "data.target=target", "data.test_labels=", "blend.fitters=[convex]"]
    sets += ["blend.fitter=convex", "blend.resamples=50", "folds.n=2"]
    pipeline.blend(config.load(None, sets), members_from=str(outside))
    store = Store(root, RUN)
    oof = pd.DataFrame({"id": ids, "fold": 0, "pred_1": 0.5})
    tensors = {"weight": torch.ones(2, 2)}
    parts = [Tokenizer()]
    store.fold(MEMBER, 0).save(
        tensors=tensors,
        parts=parts,
        oof=oof,
        make_card=lambda hashes: fold_card(hashes, member=MEMBER),
    )
    store.test_predictions(MEMBER, 0).keep(oof.drop(columns="fold"), TEST)
    store.fold(MEMBER, 0).checkpoints.save(7, tensors, checkpoint_card(7))


def _files() -> dict[str, bytes]:
    """Contents of all files of such a store, by their path in it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_store(root)
        files = (path for path in sorted(root.rglob("*")) if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def _fold(store: Store) -> None:
    card = store.fold(MEMBER, 0).card()
    assert card is None or card.place == (MEMBER, 0)
    store.fold(MEMBER, 0).tensors()
    assert len(store.fold(MEMBER, 0).oof()) == ROWS


def _test(store: Store) -> None:
    predictions = store.test_predictions(MEMBER, 0).load(TEST)
    assert predictions is None or len(predictions) == ROWS
    store.test_predictions(MEMBER, 0).check()


def _checkpoint(store: Store) -> None:
    newest = store.fold(MEMBER, 0).checkpoints.newest()
    assert newest is None or newest.tensors()["weight"].shape == (2, 2)


def _folds(store: Store) -> None:
    folds = read_folds(store.folds_path)
    assert folds is None or folds.table["fold"].dtype == "int64"


def _blend(store: Store) -> None:
    _, mixture = read_blend(store)
    assert np.isfinite(mixture.weights_MK).all()


def _lock(store: Store) -> None:
    lock = store.fold(MEMBER, 0).lock
    assert not lock.is_held()
    assert lock.holder()
    assert lock.acquire(wait=False)
    lock.release()


MODEL = f"models/{RUN}/{MEMBER}"
CHECKPOINT = f"{MODEL}/checkpoints/fold0/step-00000007"
CHECKS: dict[str, tuple[str, Callable[[Store], None]]] = {
    "fold card": (f"{MODEL}/fold0/card.json", _fold),
    "fold weights": (f"{MODEL}/fold0/model.safetensors", _fold),
    "OOF predictions": (f"oof/{RUN}/{MEMBER}/fold0.parquet", _fold),
    "test predictions": (f"oof/{RUN}/{MEMBER}/test_fold0.parquet", _test),
    "test predictions card": (f"oof/{RUN}/{MEMBER}/test_fold0.json", _test),
    "checkpoint card": (f"{CHECKPOINT}/card.json", _checkpoint),
    "checkpoint state": (f"{CHECKPOINT}/state.safetensors", _checkpoint),
    "folds": (f"input/{RUN}/folds.csv", _folds),
    "folds card": (f"input/{RUN}/folds.json", _folds),
    "blend card": (f"oof/{RUN}/blend.json", _blend),
    "lock": (f"{MODEL}/.fold0.lock", _lock),
}
FILES = _files()
CARDS = [name for name in CHECKS if name.endswith("card")]


def _reader(damaged: str, check: Callable[[Store], None], *, seal: bool) -> Reader:
    """Feed `check` a store whose file `damaged` has other contents; a card is sealed anew."""
    near = {str(PurePosixPath(damaged).parent), f"{MODEL}/fold0", f"oof/{RUN}/{MEMBER}"}
    whole = {name: FILES[name] for name in FILES if str(PurePosixPath(name).parent) in near}

    def read(content: bytes, folder: Path) -> None:
        for name, held in (whole | {damaged: content}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(held)
        with suppress(ValueError, RecursionError):  # what is no JSON stays as it is
            if seal and isinstance(json.loads(content), dict):
                edit_card(folder / damaged, lambda _: None)
        check(Store(folder, RUN))

    return read


READERS: dict[str, Reader] = {
    name: _reader(damaged, check, seal=False) for name, (damaged, check) in CHECKS.items()
} | {f"{name}, sealed": _reader(*CHECKS[name], seal=True) for name in CARDS}

SEEDS: dict[str, list[bytes]] = {
    name: [FILES.get(CHECKS[name.removesuffix(", sealed")][0], b"process 1 on host")]
    for name in READERS
}
