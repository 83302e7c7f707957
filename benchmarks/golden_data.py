"""What golden.py's runs read: tables of short texts with targets of every kind, a tiny encoder.

Nothing is downloaded, and nothing of poolblend is imported: any commit's commands read the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

GOOD = ["lovely", "bright", "happy", "fine", "sweet", "warm"]
BAD = ["awful", "dark", "gloomy", "broken", "sour", "cold"]
FILLER = ["the", "a", "of", "in", "it", "was", "on", "and", "then", "with", "day", "house", "road"]
PIECES = ["##s", "##ly", "##er"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TRAIN_ROWS, TEST_ROWS = 72, 18
TARGETS = ["label", "kind", "nice", "nasty", "a", "b", "grade", "win_a", "win_b", "tie"]
ONLY_IN_TRAIN = [*TARGETS, "p_label", "worth"]


def write_tables(folder: Path, targets: Sequence[str]) -> None:
    """Write train.csv, test.csv and a sample submission with `targets`.

    A folder `elsewhere` beside them holds predictions of `label` as another tool would make them.
    """
    rows = table()
    train, test = rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]
    folder.mkdir(parents=True)
    train.to_csv(folder / "train.csv", index=False)
    test.drop(columns=ONLY_IN_TRAIN).to_csv(folder / "test.csv", index=False)
    sample = test[["id", *targets]].copy()
    sample[targets] = train[targets].iloc[0].to_numpy()
    sample.to_csv(folder / "sample_submission.csv", index=False)
    _write_elsewhere(train, test, folder / "elsewhere")


def table() -> pd.DataFrame:
    """Rows of train and test with the columns of all cases: texts, and targets they tell of."""
    rng = np.random.default_rng(0)
    n = TRAIN_ROWS + TEST_ROWS
    good_N = rng.integers(0, 4, n)  # how many of the three telling words are good ones
    texts = [_text(rng, good, rng.integers(1, 8)) for good in good_N]
    texts[9] = texts[5].upper()  # equal texts share a fold
    label_N = np.where(rng.random(n) < 0.1, good_N < 2, good_N >= 2).astype(int)
    kind_N = np.array(["bad", "mixed", "mixed", "good"])[good_N]
    share_NK = np.stack([good_N, 3 - good_N], axis=1) * 0.25  # a quarter is a tie
    length_N = np.array([float(len(text)) for text in texts])
    length_N[::11] = np.nan
    return pd.DataFrame(
        {
            "id": [f"r{i:03d}" for i in range(n)],
            "text": texts,
            "other": [_text(rng, good, 3) for good in good_N],
            "long": [_text(rng, good, rng.integers(10, 60)) for good in good_N],
            "length": length_N,
            "topic": rng.choice(["house", "road", "day"], n),
            "author": rng.choice([f"author{i}" for i in range(12)], n),
            "worth": rng.choice([0.0, 0.5, 1.0, 2.0], n, p=[0.1, 0.2, 0.5, 0.2]),
            "label": label_N,
            "p_label": np.clip(good_N / 3 + rng.normal(0, 0.1, n), 0, 1).round(3),
            "kind": kind_N,
            "nice": (good_N >= 2).astype(int),
            "nasty": (good_N <= rng.integers(0, 3, n)).astype(int),
            "a": (good_N + rng.normal(0, 0.3, n)).round(3),
            "b": (3 - good_N + rng.normal(0, 0.3, n)).round(3),
            "grade": good_N,
            "win_a": share_NK[:, 0],
            "win_b": share_NK[:, 1],
            "tie": 1 - share_NK[:, 0] - share_NK[:, 1],
        }
    )


def _text(rng: np.random.Generator, good: int, n_filler: int) -> str:
    telling = [*rng.choice(GOOD, good), *rng.choice(BAD, 3 - good)]
    words = [f"{word}{rng.choice(['', 'ly', 's'])}" for word in telling]
    return " ".join(rng.permutation([*words, *rng.choice(FILLER, n_filler)]))


def _write_elsewhere(train: pd.DataFrame, test: pd.DataFrame, folder: Path) -> None:
    """Predictions of two members from elsewhere, for the target `label`."""
    rng = np.random.default_rng(1)
    for name, noise in (("sharp", 0.2), ("vague", 0.5)):
        for rows, place in ((train, folder), (test, folder / "test")):
            place.mkdir(parents=True, exist_ok=True)
            pred_N = np.clip(rows["label"] + rng.normal(0, noise, len(rows)), 0.01, 0.99)
            frame = pd.DataFrame({"id": rows["id"], "pred_label": pred_N.round(4)})
            frame.to_csv(place / f"{name}.csv", index=False)


def write_encoder(folder: Path) -> None:
    """Write a random BERT of two layers, hidden size 16, with a WordPiece tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, logging

    logging.disable_progress_bar()
    vocab = {word: i for i, word in enumerate([*SPECIAL, *GOOD, *BAD, *FILLER, *PIECES])}
    core = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    names = {f"{word[1:-1].lower()}_token": word for word in SPECIAL}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,  # so that predictions tell members apart after a few steps
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
