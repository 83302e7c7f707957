"""The rival of grid.py and gpu.py: nine trainings by transformers' Trainer, or by a plain loop.

  python benchmarks/hf_grid.py DATA BACKBONE OUT
  python benchmarks/hf_grid.py DATA BACKBONE OUT --part 0 --of 2     every second one of them
  python benchmarks/hf_grid.py DATA BACKBONE OUT --notebook          rows padded to 128, fp32

DATA holds train.csv and test.csv (id, text, label). Three models that differ in their seed, each in
three stratified folds; every one is saved with its predictions of the fold's rows and of test.

Legend: N rows, K classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from sklearn.model_selection import StratifiedKFold

MODELS, FOLDS = 3, 3
NOTEBOOK_LENGTH = 128


def main() -> None:
    args = parsed()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    train, test = (pd.read_csv(args.data / f"{name}.csv") for name in ("train", "test"))
    y, classes = pd.factorize(train["label"], sort=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        args.backbone, local_files_only=True, trust_remote_code=False
    )
    how = {"truncation": True, "max_length": args.max_length}
    if args.notebook:
        longest = min(NOTEBOOK_LENGTH, tokenizer.model_max_length)
        how = {"truncation": True, "max_length": longest, "padding": "max_length"}
    rows = dataset(tokenizer(list(train["text"]), **how), y)
    unknown = dataset(tokenizer(list(test["text"]), **how), np.zeros(len(test), dtype=int))
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=42)
    splits = list(splitter.split(np.zeros(len(y)), y))
    jobs = [(model, fold) for model in range(MODELS) for fold in range(FOLDS)]
    fit = notebook if args.notebook else trainer
    for model, fold in jobs[args.part :: args.of]:
        learned, held = splits[fold]
        transformers.set_seed(1000 * model + fold)
        network = transformers.AutoModelForSequenceClassification.from_pretrained(
            args.backbone,
            num_labels=len(classes),
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        folder = args.out / f"model{model}fold{fold}"
        sets = [[rows[i] for i in learned], [rows[i] for i in held], unknown]
        oof, predicted = fit(args, network, tokenizer, sets, folder)
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        np.savez(folder / "oof.npz", rows=held, oof=oof, test=predicted, n_rows=len(y))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of the CPU (default: torch decides)")
    parser.add_argument("--compile", action="store_true", help="Trainer's torch_compile")
    parser.add_argument("--notebook", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def dataset(encoded: Any, y: np.ndarray) -> list[dict[str, Any]]:
    return [
        {name: encoded[name][i] for name in encoded} | {"labels": int(label)}
        for i, label in enumerate(y)
    ]


def trainer(
    args: argparse.Namespace, network: Any, tokenizer: Any, sets: list[Any], folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) of the fold's rows and of test, after a training by Trainer."""
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    fp16 = torch.cuda.is_available() and not bf16
    bf16 |= not torch.cuda.is_available() and torch.cpu._is_avx512_bf16_supported()
    settings = transformers.TrainingArguments(
        str(folder),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=args.lr,
        weight_decay=0.01,
        warmup_steps=0.1,
        bf16=bf16,
        fp16=fp16,
        train_sampling_strategy="group_by_length",
        torch_compile=args.compile,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    made = transformers.Trainer(
        network,
        settings,
        train_dataset=sets[0],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )
    made.train()
    made.args.train_sampling_strategy = "random"  # else it would predict in another order
    oof, test = (in_order_of_length(made, rows) for rows in sets[1:])
    return oof, test


def in_order_of_length(made: transformers.Trainer, rows: list[dict[str, Any]]) -> np.ndarray:
    """Probabilities (N, K) of the rows; the longest are predicted first, with little padding."""
    order = np.argsort([-len(row["input_ids"]) for row in rows], kind="stable")
    predicted = made.predict([rows[i] for i in order]).predictions
    return softmax(predicted)[np.argsort(order)]


def notebook(
    args: argparse.Namespace, network: Any, tokenizer: Any, sets: list[Any], folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The same by the loop of many public notebooks: fp32, every row as long as the longest."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr)
    learned, held, unknown = (stacked(rows) for rows in sets)
    for _ in range(args.epochs):
        for batch in torch.utils.data.DataLoader(learned, args.batch_size, shuffle=True):
            network(**on(batch, device)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    network.eval()
    return predictions(network, held, device), predictions(network, unknown, device)


def stacked(rows: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
    return [{name: torch.tensor(value) for name, value in row.items()} for row in rows]


def on(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def predictions(network: Any, rows: Any, device: torch.device) -> np.ndarray:
    with torch.no_grad():
        batches = torch.utils.data.DataLoader(rows, 64)
        logits = [network(**on(batch, device)).logits.cpu().numpy() for batch in batches]
    return softmax(np.concatenate(logits))


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    e_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return e_NK / e_NK.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
