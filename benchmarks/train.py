"""One epoch of fine-tuning: ours, transformers' Trainer, and the loop of the common notebook.

  python benchmarks/train.py
  python benchmarks/train.py --csv input/disaster-tweets/train.csv --target target --runs 3

Ours and Trainer: precision auto, dynamic padding, batches of similar length. The notebook loop:
fp32, every row padded to 128. Tokenising counts for all three; loading the encoder for none.
"""

from __future__ import annotations

import tempfile
from functools import partial

import numpy as np
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bench import MAX_LENGTH, arguments, encoder_folder, load_rows, machine, race, timed
from poolblend.modeling import backbone
from poolblend.modeling.model import build_model
from poolblend.text_spec import TextSpec
from poolblend.training.devices import choose_device, resolve_precision
from poolblend.training.encoding import encode
from poolblend.training.fit import Fit
from poolblend.training.objectives import choose_objective
from poolblend.training.options import Train

BATCH_SIZE = 32
RATE = 5e-5


def ours(texts: list[str], y: np.ndarray, padding: list[float]) -> float:
    base = backbone.load(encoder_folder())
    model, _ = build_model(
        base, pooler="mean", pooler_args={}, mask="attention", n_outputs=1, dropout=0.1, norm="none"
    )

    def work() -> None:
        fit = Fit(
            model,
            encode([texts], base.tokenizer, TextSpec(max_length=MAX_LENGTH)),
            np.arange(len(texts)),
            y[:, None].astype(np.float64),
            choose_objective("binary"),
            Train(epochs=1, batch_size=BATCH_SIZE, lr=RATE, head_lr=None),
            seed=0,
        )
        padding.extend(epoch.padding for epoch in fit.run())

    return timed(work)


def sequence_classifier() -> tuple[torch.nn.Module, transformers.PreTrainedTokenizerBase]:
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder_folder(),
        num_labels=2,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        encoder_folder(), local_files_only=True, trust_remote_code=False
    )
    return model, tokenizer


def trainer(texts: list[str], y: np.ndarray) -> float:
    model, tokenizer = sequence_classifier()
    precision = resolve_precision("auto", choose_device())

    def work() -> None:
        encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
        rows = [
            {"input_ids": ids, "attention_mask": mask, "labels": int(label)}
            for ids, mask, label in zip(
                encoded["input_ids"], encoded["attention_mask"], y, strict=True
            )
        ]
        with tempfile.TemporaryDirectory() as folder:
            settings = transformers.TrainingArguments(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=RATE,
                weight_decay=0.01,
                bf16=precision == "bf16",
                fp16=precision == "fp16",
                train_sampling_strategy="group_by_length",
                use_cpu=choose_device().type == "cpu",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            transformers.Trainer(
                model,
                settings,
                train_dataset=rows,
                data_collator=transformers.DataCollatorWithPadding(tokenizer),
            ).train()

    return timed(work)


def notebook(texts: list[str], y: np.ndarray) -> float:
    model, tokenizer = sequence_classifier()
    device = choose_device()
    model.to(device).train()

    def work() -> None:
        encoded = tokenizer(
            texts, truncation=True, max_length=128, padding="max_length", return_tensors="pt"
        )
        data = torch.utils.data.TensorDataset(
            encoded["input_ids"], encoded["attention_mask"], torch.from_numpy(y)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        for ids, mask, labels in torch.utils.data.DataLoader(data, BATCH_SIZE, shuffle=True):
            loss = model(
                input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)
            ).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return timed(work)


def main() -> None:
    args = arguments(__doc__)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    texts, y = load_rows(args)
    padding: list[float] = []
    runners = {
        "poolblend": partial(ours, texts, y, padding),
        "transformers Trainer": partial(trainer, texts, y),
        "notebook, padded to 128": partial(notebook, texts, y),
    }
    seconds = race(runners, args.runs)
    print(f"one epoch of {len(texts)} rows, batch {BATCH_SIZE}; {machine()}")
    print(f"precision auto = {resolve_precision('auto', choose_device())}; median of {args.runs}")
    for name, median in seconds.items():
        ratio = median / seconds["poolblend"]
        print(f"{name:24} {median:7.1f} s  {len(texts) / median:6.0f} rows/s  {ratio:5.2f} x")
    print(f"share of padding tokens in ours: {100 * np.mean(padding):.1f} %")


if __name__ == "__main__":
    main()
