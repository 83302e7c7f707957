"""The runs that golden.py compares: for each case a config and the commands it goes through."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golden_data import write_tables

ALL_POOLERS = [
    *("attention", "cls", "cls_mean", "concat_layers", "gem", "last", "max", "mean", "mean_max"),
    *("mean_sqrt_len", "min", "pooler_output", "weighted", "weighted_layer"),
    {"pooler": "mean_kmax", "pooler_args": {"k": 3}},
    {"pooler": "weighted", "tag": "features", "pooler_args": {"by": "features"}},
    {"pooler": "mean", "tag": "content", "mask": "content"},
    {"pooler": "mean", "tag": "seed", "seed": 7},
]
WINDOWS = {"overlap": 4, "most": 3}
MASKED_LANGUAGE = {"epochs": 2, "lr": 1e-3, "batch_size": 8, "max_length": 16}
# Script and options; relative paths start at the case's folder.
TRAIN, BLEND, INFER = ("train",), ("blend",), ("infer",)
USUAL = (TRAIN, BLEND, INFER)
LABELLED = {"pooler": "mean", "tag": "more", "pseudo": {"labels": "first"}}
WITH_LABELS = ("--set", f"members={json.dumps(['mean', LABELLED])}")


@dataclass(frozen=True)
class Case:
    """The config's keys that differ from those of all cases, and the commands in their order."""

    task: str
    metric: str
    target: str | list[str]
    members: list[Any] = field(default_factory=lambda: ["mean", "max"])
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    commands: tuple[tuple[str, ...], ...] = USUAL


def tagged(section: str, **settings: Any) -> list[dict[str, Any]]:
    """One `mean` member per keyword, whose tag it is and whose value is part of `section`."""
    return [{"pooler": "mean", "tag": tag, section: value} for tag, value in settings.items()]


RECIPES = tagged(
    "train",
    decay={"layer_decay": 0.7},
    reinit={"reinit_layers": 1},
    freeze={"freeze_layers": 1},
    samples={"dropout_samples": 3},
    smoothing={"label_smoothing": 0.1},
    balanced={"class_weights": "balanced"},
    rdrop={"rdrop": 0.5},
    fgm={"fgm": 0.5},
    awp={"awp": 0.01, "adversarial_start": 0.3},
    ema={"ema": 0.9},
    swa={"swa_epochs": 2},
    together={"layer_decay": 0.8, "reinit_layers": 1, "rdrop": 0.3, "awp": 0.01, "ema": 0.8},
)
LOOPS = tagged(
    "train",
    adam={"optimizer": "adam", "schedule": "cosine"},
    sgd={"optimizer": "sgd", "schedule": "constant", "clip": None},
    accumulated={"accumulation": 2, "head_lr": None, "warmup": 0.0, "weight_decay": 0.0},
    recomputed={"gradient_checkpointing": True, "attention": "eager"},
    half={"precision": "bf16"},
    stopped={"epochs": 5, "early_stopping": 1},
) + tagged("head", layer={"norm": "layer"}, batch={"norm": "batch", "dropout": 0.3})

CASES = {
    "binary": Case(
        "binary",
        "f1",
        "label",
        ALL_POOLERS,
        settings={"blend": {"fitter": "optuna"}},
        commands=((*TRAIN, "--fold", "0"), *USUAL, (*INFER, "--vectors")),
    ),
    "recipes": Case("multiclass", "f1_macro", "kind", [*RECIPES, *LOOPS]),
    "multiclass": Case(
        "multiclass",
        "accuracy",
        "kind",
        ["mean"],
        settings={"seeds": [1, 2], "blend": {"fitter": "stack"}},
    ),
    # Shares of three classes, which are learned as they are.
    "shares": Case(
        "multiclass",
        "log_loss",
        ["win_a", "win_b", "tie"],
        settings={"submission": "probabilities", "blend": {"fitter": "convex"}},
    ),
    "multilabel": Case(
        "multilabel",
        "f1_macro",
        ["nice", "nasty"],
        settings={
            "submission": "labels",
            "blend": {"fitter": "greedy", "thresholds": "fitted", "weights": "per_output"},
        },
    ),
    "regression": Case(
        "regression",
        "mcrmse",
        ["a", "b"],
        ["mean", *tagged("train", mse={"loss": "mse"}), *tagged("head", r="ridge", s="svr")],
        settings={"blend": {"fitter": "shrunk"}},
    ),
    "ordinal": Case(
        "ordinal",
        "qwk",
        "grade",
        ["mean", *tagged("train", steps={"loss": "cumulative"}, classes={"loss": "cross_entropy"})],
        data={"classes": [0, 1, 2, 3]},
        settings={"blend": {"fitter": "greedy", "thresholds": "fitted"}},
    ),
    "pairs": Case(
        "binary",
        "roc_auc",
        "label",
        data={"text": ["text", "other"], "join": "pair"},
        settings={"blend": {"fitter": "bagged", "space": "rank"}},
    ),
    # Whole groups in each fold; the blend also takes predictions of members from elsewhere.
    "groups": Case(
        "binary",
        "accuracy",
        "label",
        settings={"folds": {"n": 3, "groups": "author"}, "blend": {"fitter": "convex"}},
        commands=(TRAIN, (*BLEND, "--members-from", "data/elsewhere"), INFER),
    ),
    "windows": Case(
        "binary",
        "f1",
        "label",
        [
            {"pooler": "mean", "windows": WINDOWS},
            {"pooler": "max", "windows": WINDOWS},
            {"pooler": "cls", "tag": "both", "truncation": "head_tail"},
            {"pooler": "mean", "tag": "tail", "truncation": "tail"},
        ],
        data={"text": "long"},
    ),
    "adapters": Case(
        "binary",
        "f1",
        "label",
        tagged(
            "train",
            rank={"lora": 4},
            some={"lora": {"r": 2, "modules": ["query", "value"]}},
            average={"lora": {"r": 4, "alpha": 8.0, "dropout": 0.2}, "ema": 0.9},
        ),
    ),
    "frozen": Case(
        "binary",
        "log_loss",
        "label",
        [*tagged("head", r="ridge", l="logistic", s={"kind": "svr", "C": 2.0}), "max"],
        settings={"blend": {"fitter": "convex"}},
    ),
    "pseudo": Case(
        "binary",
        "f1",
        "label",
        commands=(
            TRAIN,
            BLEND,
            (*INFER, "--pseudo-labels", "first"),
            (*TRAIN, *WITH_LABELS),
            (*BLEND, *WITH_LABELS),
            (*INFER, *WITH_LABELS),
        ),
    ),
    "masked-language": Case(
        "binary",
        "f1",
        "label",
        ["mean", {"pooler": "mean", "tag": "plain", "backbone": {"mlm": None}}],
        settings={"backbone": {"mlm": MASKED_LANGUAGE}},
    ),
    # Columns beside the text: a template, numbers, categories, weights, soft labels.
    "columns": Case(
        "binary",
        "f1",
        "label",
        data={
            "text": "{topic} [SEP] {text}",
            "numeric": ["length"],
            "categorical": ["topic"],
            "weight": "worth",
            "soft": ["p_label"],
        },
    ),
}


def write_case(name: str, folder: Path, encoder: Path) -> Path:
    """Write the case's tables and config; the config's path."""
    case = CASES[name]
    data = folder / "data"
    write_tables(data, [case.target] if isinstance(case.target, str) else case.target)
    settings: dict[str, Any] = {
        "run": name,
        "task": case.task,
        "metric": case.metric,
        "data": {"dir": str(data), "target": case.target, **case.data},
        "folds": {"n": 2},
        "max_length": 16,
        "members": case.members,
        "store": str(folder / "store"),
        **case.settings,
    }
    settings["backbone"] = {"source": str(encoder), **settings.get("backbone", {})}
    train_keys = {"epochs": 2, "batch_size": 8, "lr": 3e-3, "head_lr": 3e-2}
    settings["train"] = train_keys | settings.get("train", {})
    settings["blend"] = {"trials": 20, "resamples": 50} | settings.get("blend", {})
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return path
