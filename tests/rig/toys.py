"""A tiny random encoder and toy competitions, made anew; nothing is downloaded."""

import numpy as np
import pandas as pd
import yaml

WORDS = {
    "good": ["lovely", "bright", "happy", "fine", "sweet", "warm"],
    "bad": ["awful", "dark", "gloomy", "broken", "sour", "cold"],
    "odd": ["purple", "square", "seven", "sideways", "magnetic", "upward"],
}
FILLER = [
    "the",
    "a",
    "of",
    "in",
    "it",
    "was",
    "on",
    "and",
    "then",
    "with",
    "day",
    "house",
    "road",
    "tree",
]


def write_encoder(folder):
    """Write a random BERT of two layers, hidden size 16, with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*special, *sorted({w for group in (*WORDS.values(), FILLER) for w in group})]
    vocab = {word: i for i, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _texts(groups, rng):
    """One short text per group name: two telling words among filler, of varying length."""
    texts = []
    for group in groups:
        words = [*rng.choice(WORDS[group], 2), *rng.choice(FILLER, rng.integers(1, 9))]
        texts.append(" ".join(rng.permutation(words)))
    return texts


def toy_frame(task, n):
    """`n` texts, with targets of the task's kind that their words tell."""
    rng = np.random.default_rng(0)
    groups = rng.choice(["good", "bad", "odd"] if task == "multiclass" else ["good", "bad"], n)
    good = (groups == "good").astype(int)
    targets = {
        "binary": {"target": good},
        "multiclass": {"target": groups},
        "multilabel": {"nice": good, "nasty": 1 - good},
        "regression": {"a": 3 + good + rng.normal(0, 0.1, n), "b": 1.0 - good},
    }[task]
    return pd.DataFrame({"text": _texts(groups, rng), **targets})


def write_toy(place, backbone, task="binary", n=60, n_test=15, name="toy", **keys):
    """Write a toy competition and its config file into the folder `place`; the config's path.

    `keys` are the config's, beside what a quick run needs.
    """
    folder = place / "data"
    folder.mkdir(exist_ok=True)
    frame = toy_frame(task, n + n_test)
    frame.insert(0, "id", [f"r{i:03d}" for i in range(len(frame))])
    train, test = frame[:n], frame[n:]
    targets = list(frame.columns[2:])
    train.to_csv(folder / "train.csv", index=False)
    test[["id", "text"]].to_csv(folder / "test.csv", index=False)
    test[["id", *targets]].to_csv(folder / "test_labels.csv", index=False)
    sample = test[["id", *targets]].copy()
    sample[targets] = train[targets].iloc[0].to_numpy()
    sample.to_csv(folder / "sample_submission.csv", index=False)
    metric = {"binary": "f1", "multiclass": "accuracy"}.get(task)
    metric = metric or {"multilabel": "f1_macro", "regression": "mcrmse"}[task]
    settings = {
        "task": task,
        "metric": metric,
        "data": {"dir": str(folder), "target": targets},
        "folds": {"n": 3},
        "backbone": str(backbone),
        "max_length": 16,
        "members": ["mean", "max"],
        "train": {"epochs": 2, "batch_size": 8, "lr": 1e-3, "head_lr": 1e-2},
        "blend": {"trials": 20},
        "store": str(place / "store"),
        **keys,
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
