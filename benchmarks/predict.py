"""Prediction: ours against sentence-transformers' encode, on the same encoder and precision.

  python benchmarks/predict.py
  python benchmarks/predict.py --csv input/disaster-tweets/train.csv --target target --runs 5

Both tokenise and return one vector or prediction per row, in order.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from bench import MAX_LENGTH, arguments, encoder_folder, load_rows, machine, race, timed
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel, build_model
from poolblend.text_spec import TextSpec
from poolblend.training.devices import Precision, choose_device
from poolblend.training.encoding import encode
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict

BATCH_TOKENS = 8192


def build() -> tuple[TextModel, object]:
    base = backbone.load(encoder_folder())
    model, _ = build_model(
        base, pooler="mean", pooler_args={}, mask="attention", n_outputs=1, dropout=0.1, norm="none"
    )
    return model.to(choose_device()), base.tokenizer


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


def sentence_transformer(dtype: torch.dtype) -> SentenceTransformer:
    model = SentenceTransformer(str(encoder_folder()), device=choose_device().type)
    model.max_seq_length = MAX_LENGTH
    return model.to(dtype)


def main() -> None:
    args = arguments(__doc__)
    texts, _ = load_rows(args)
    model, tokenizer = build()
    print(f"prediction of {len(texts)} rows; {machine()}; median of {args.runs}")
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        peer = sentence_transformer(dtype)
        runners = {
            f"poolblend {precision}": partial(ours, texts, model, tokenizer, precision),
            f"sentence-transformers {precision}": lambda peer=peer: timed(
                lambda: peer.encode(texts, batch_size=32, convert_to_tensor=True)
            ),
        }
        seconds = race(runners, args.runs)
        best = next(iter(seconds.values()))
        for name, median in seconds.items():
            rate = len(texts) / median
            print(f"{name:28} {median:6.1f} s  {rate:6.0f} rows/s  {median / best:5.2f} x")


if __name__ == "__main__":
    main()
