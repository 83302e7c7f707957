"""A decoder of some hundred million parameters with LoRA beside MiniLM: time, memory, size.

  python benchmarks/decoder.py                     300 million, in bf16 and in fp32
  python benchmarks/decoder.py --millions 1500 --dtypes bf16

Its weights are random: no model is downloaded, and scores mean nothing. Each dtype is a run of its
own by the real commands: two folds of 64 rows, a blend with a MiniLM member, a submission. Peak
memory is that of the command's process, files that it reads included. Everything is written into a
temporary folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from transformers import Qwen3Config, Qwen3Model

import bench  # also lets poolblend be imported
from poolblend import config
from poolblend.loading.competition import open_store

WIDTH, WORDS = 1024, 30522
PER_LAYER = 2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * 3 * WIDTH
DECODER, MINILM = "decoder-last-s42", "minilm-mean-s42"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=int, default=300, help="of parameters, at least")
    parser.add_argument("--dtypes", default="bf16,fp32")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=64)
    args = parser.parse_args()
    print(bench.machine())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # Elsewhere: a command's peak is at least that of the process which starts it.
        with get_context("spawn").Pool(1) as pool:
            n_parameters = pool.apply(write_decoder, (folder / "decoder", args.millions))
        print(f"a random Qwen3 of {n_parameters / 1e6:.0f} million parameters")
        for dtype in args.dtypes.split(","):
            run(folder, dtype, args.rows, args.max_length)


def write_decoder(folder: Path, millions: int) -> int:
    """Write a decoder of at least so many parameters, with MiniLM's tokenizer; how many it has."""
    n_layers = -(-(millions * 1_000_000 - WORDS * WIDTH) // PER_LAYER)
    shape = Qwen3Config(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=n_layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=WIDTH // 16,
        intermediate_size=3 * WIDTH,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    decoder = Qwen3Model(shape).to(torch.bfloat16)
    decoder.save_pretrained(folder)
    for file in bench.encoder_folder().iterdir():
        if file.name.startswith(("tokenizer", "vocab", "special_tokens")):
            shutil.copy(file, folder)
    return sum(parameter.numel() for parameter in decoder.parameters())


def run(folder: Path, dtype: str, n_rows: int, max_length: int) -> None:
    place = folder / dtype
    place.mkdir()
    lora = {"epochs": 1, "batch_size": 8, "lr": 2e-4, "lora": {"r": 8}}
    backbone = {"source": str(folder / "decoder"), "dtype": dtype, "name": "decoder"}
    settings = {
        "task": "multiclass",
        "metric": "accuracy",
        "data": {"dir": str(place), "target": "library", "demo": True, "sample_rows": n_rows},
        "folds": {"n": 2},
        "max_length": max_length,
        "members": [{"pooler": "last", "backbone": backbone, "train": lora}, "mean"],
        "train": {"epochs": 1},
        "blend": {"fitter": "equal"},  # both members are run
        "store": str(place / "store"),
    }
    (place / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    print(f"\n{dtype}: command, seconds, peak memory in GB")
    for name, *flags in (("train", "--pooler", "last"), ("train",), ("blend",), ("infer",)):
        spent = spend(
            [
                sys.executable,
                bench.ROOT / f"{name}.py",
                "--config",
                place / "run.yaml",
                "--quiet",
                *flags,
            ]
        )
        print(
            f"  {' '.join([name, *flags]):20} {spent.seconds:6.1f} {spent.gigabytes:6.2f}",
            flush=True,
        )
    store = open_store(config.load(place / "run.yaml"))
    (base,) = store.bases_folder.glob("[!.]*")
    for what, path in (
        ("the one copy of the decoder", base),
        ("a fold of it", store.fold_folder(DECODER, 0)),
        ("a fold of MiniLM", store.fold_folder(MINILM, 0)),
    ):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"  {what}: {size / 1e6:.1f} MB")


class Spent(NamedTuple):
    seconds: float
    gigabytes: float


def spend(command: list[object]) -> Spent:
    """What the command takes; it raises where the command fails."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return Spent(time.perf_counter() - started, used.ru_maxrss / 1e6)


if __name__ == "__main__":
    main()
