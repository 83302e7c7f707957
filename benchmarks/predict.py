"""Prediction: ours against sentence-transformers' encode, on the same encoder and precision.

  python benchmarks/predict.py
  python benchmarks/predict.py --csv input/disaster-tweets/train.csv --target target --runs 5
  python benchmarks/predict.py --models 25 --rows 300       as many fold models, loading included

Both tokenise and return one vector or prediction per row, in order. With `--models`, ours are
stored folds, run as infer.py runs them, also with the lower half of their layers shared, as members
with `freeze_layers` do; theirs are folders with the same weights. bf16 is measured where the device
computes in it.
"""

from __future__ import annotations

import shutil
import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from bench import MAX_LENGTH, arguments, bare_card, encoder_folder, load_rows, machine, race, timed
from poolblend import config
from poolblend.config import Member
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel, build_model
from poolblend.store import Store
from poolblend.store.predictions import to_table
from poolblend.text_spec import TextSpec
from poolblend.training.devices import Precision, choose_device, computes_in
from poolblend.training.encoding import encode
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict

BATCH_TOKENS = 8192
NOISE = 1e-3  # relative change of each model's weights
HALF = 3  # of MiniLM's layers


def build() -> tuple[TextModel, backbone.Backbone]:
    base = backbone.load(encoder_folder())
    model, _ = build_model(
        base, pooler="mean", pooler_args={}, mask="attention", n_outputs=1, dropout=0.1, norm="none"
    )
    return model.to(choose_device()), base


def ours(texts: list[str], model: TextModel, tokenizer: object, precision: Precision) -> float:
    def work() -> None:
        encoded = encode([texts], tokenizer, TextSpec(max_length=MAX_LENGTH))
        predict(
            model,
            encoded,
            np.arange(len(texts)),
            choose_objective("binary"),
            batch_tokens=BATCH_TOKENS,
            precision=precision,
        )

    return timed(work)


def sentence_transformer(folder: Path, dtype: torch.dtype) -> SentenceTransformer:
    model = SentenceTransformer(str(folder), device=choose_device().type)
    model.max_seq_length = MAX_LENGTH
    return model.to(dtype)


def theirs(texts: list[str], model: SentenceTransformer) -> object:
    return model.encode(texts, batch_size=32, convert_to_tensor=True)


# --- several fold models, loading included ------------------------------------------------------


def write_models(
    store: Store, n: int, precision: Precision, frozen: int = 0
) -> tuple[Member, list[Path]]:
    """Folds in the store, and folders with the same encoders: MiniLM's weights with some noise.

    Embeddings and the lowest `frozen` layers have none.
    """
    settings = [f"train.precision={precision}", f"train.freeze_layers={frozen}"]
    (member, *_) = config.load(None, settings).resolve_members(["mean"])
    folders, saving = [], []
    model, base = build()
    plain = {name: x.clone() for name, x in model.state_dict().items()}
    own = [name for name in plain if plain[name].ndim > 1]
    if frozen:
        shared = ("encoder.embeddings.", *(f"encoder.encoder.layer.{n}." for n in range(frozen)))
        own = [name for name in own if not name.startswith(shared)]
    torch.manual_seed(0)
    for fold in range(n):
        noisy = {name: plain[name] * (1 + NOISE * torch.randn_like(plain[name])) for name in own}
        tensors = plain | noisy
        save = partial(
            store.fold(member.name, fold).save,
            tensors=tensors,
            parts=base.parts,
            oof=to_table(["a"], np.array([[0.5]]), ["target"], fold),
            make_card=partial(bare_card, member, fold, precision=precision),
        )
        saving.append(timed(save))
        if frozen:
            continue
        folders.append(store.root / f"plain{fold}")
        shutil.copytree(encoder_folder(), folders[-1])
        theirs = load_file(folders[-1] / "model.safetensors")
        changed = {key: tensors.get(f"encoder.{key}", x).contiguous() for key, x in theirs.items()}
        save_file(changed, folders[-1] / "model.safetensors", metadata={"format": "pt"})
    print(f"saving a fold: {statistics.median(saving):.2f} s")
    return member, folders


def folds_of_ours(texts: list[str], store: Store, member: Member, n: int) -> float:
    shutil.rmtree(store.root / "cache", ignore_errors=True)

    def work() -> None:
        table = pd.DataFrame({"text": texts})
        models = FoldModels(store, Texts(table, None), BATCH_TOKENS)
        for fold in range(n):
            models.predict(member.name, fold, np.arange(len(texts)))

    return timed(work)


def folders_of_theirs(texts: list[str], folders: list[Path], dtype: torch.dtype) -> float:
    def work() -> None:
        for folder in folders:
            theirs(texts, sentence_transformer(folder, dtype))

    return timed(work)


def main() -> None:
    args = arguments(__doc__, models=0)
    texts, _ = load_rows(args)
    what = f"by {args.models} models, loading included" if args.models else "by one model"
    print(f"prediction of {len(texts)} rows {what}; {machine()}; median of {args.runs}")
    precisions: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    for precision, dtype in precisions.items():
        if not computes_in(precision, choose_device()):
            print(f"{precision}: this device does not compute in it")
            continue
        with TemporaryDirectory() as folder:
            if args.models:
                store, half = Store(Path(folder), "bench"), Store(Path(folder), "half")
                member, folders = write_models(store, args.models, precision)
                shared, _ = write_models(half, args.models, precision, frozen=HALF)
                runners = {
                    "poolblend": partial(folds_of_ours, texts, store, member, args.models),
                    "half of it shared": partial(folds_of_ours, texts, half, shared, args.models),
                    "sentence-transformers": partial(folders_of_theirs, texts, folders, dtype),
                }
            else:
                model, base = build()
                peer = sentence_transformer(encoder_folder(), dtype)
                runners = {
                    "poolblend": partial(ours, texts, model, base.tokenizer, precision),
                    "sentence-transformers": partial(timed, partial(theirs, texts, peer)),
                }
            runners = {f"{name} {precision}": run for name, run in runners.items()}
            seconds = race(runners, args.runs)
        best = next(iter(seconds.values()))
        n_predicted = len(texts) * max(1, args.models)
        for name, median in seconds.items():
            rate = n_predicted / median
            print(f"{name:28} {median:6.1f} s  {rate:6.0f} rows/s  {median / best:5.2f} x")


if __name__ == "__main__":
    main()
