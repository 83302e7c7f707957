"""The grid of grid.py on a GPU: encoders of three sizes with random weights, short and long texts.

  python benchmarks/gpu.py
  python benchmarks/gpu.py --only minilm-40,bert-40 --processes 4
  python benchmarks/gpu.py --toy                         tiny encoders on a CPU, to try the program

Of each contender: wall time of 3 models x 3 folds with loading, predicting and saving, real tokens
a second, the share of the bf16 matrix products that the device was measured to reach, peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from bench import encoder_folder, machine
from grid import race
from grids import FOLDS, POOLERS, TEST_SHARE, Contender, Grid, Measured, hf, ours, write_tables

BERT = {"vocab_size": 30522}
DEBERTA = BERT | {  # with BERT's vocabulary, whose tokenizer is at hand
    "hidden_size": 768,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "max_relative_positions": -1,
    "type_vocab_size": 0,
}
MINILM = BERT | {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
TOY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@dataclass(frozen=True)
class Size:
    """An encoder's configuration, and the texts that it reads."""

    config: Any
    n_tokens: int
    n_rows: int
    batch_size: int

    def shrunk(self) -> Size:
        config = type(self.config)(**{**self.config.to_dict(), **TOY})
        return Size(config, min(self.n_tokens, 12), 60, 8)


SIZES = {
    "minilm-40": Size(transformers.BertConfig(**MINILM, num_attention_heads=12), 40, 8000, 32),
    "bert-40": Size(transformers.BertConfig(**BERT), 40, 8000, 32),
    "bert-512": Size(transformers.BertConfig(**BERT), 512, 1000, 16),
    "deberta-512": Size(transformers.DebertaV2Config(**DEBERTA), 512, 1000, 16),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SIZES), help=f"of {', '.join(SIZES)}")
    parser.add_argument("--processes", type=int, default=3, help="n, of ours and of Trainer")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--contenders", default="", help="a part of the names to leave others out")
    parser.add_argument("--toy", action="store_true", help="tiny encoders and tables")
    args = parser.parse_args()
    unknown = set(args.only.split(",")) - set(SIZES)
    if unknown:
        parser.error(f"--only {min(unknown)}: known are {', '.join(SIZES)}")
    peak = matrix_peak(256 if args.toy else 8192)
    print(f"{machine()}; bf16 matrix products reach {peak / 1e12:.3f} TFLOP/s")
    every = contenders(args.processes)
    chosen = [each for each in every if args.contenders in each.name]
    for name in args.only.split(","):
        size = SIZES[name].shrunk() if args.toy else SIZES[name]
        with tempfile.TemporaryDirectory() as folder:
            grid = make_grid(Path(folder), size, args.epochs)
            found = race(chosen, grid, args.runs)
        print(f"\n{name}: {size.n_rows} rows of {size.n_tokens} tokens, batch {size.batch_size}")
        print("\n".join(table(chosen, found, size, args.epochs, peak)), flush=True)


def contenders(n: int) -> list[Contender]:
    return [
        hf("Trainer, one by one"),
        hf("Trainer, torch_compile", "--compile"),
        hf(f"Trainer, {n} processes", processes=n),
        ours("ours, one worker"),
        ours(f"ours, {n} workers", workers=str(n)),
    ]


def make_grid(folder: Path, size: Size, epochs: int) -> Grid:
    """Random weights and texts of random words, each of them one token."""
    backbone, data = folder / "backbone", folder / "data"
    data.mkdir()
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(size.config, trust_remote_code=False)
    model.save_pretrained(backbone)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        encoder_folder(), local_files_only=True, trust_remote_code=False
    )
    tokenizer.save_pretrained(backbone)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii())
    rng = np.random.default_rng(0)
    # Real tables have texts of unequal length: from half to all of the tokens.
    lengths = rng.integers(size.n_tokens // 2, size.n_tokens - 1, size.n_rows)
    texts = [" ".join(rng.choice(words, length)) for length in lengths]
    labels = [f"{n % 2}" for n in range(size.n_rows)]
    write_tables(data, texts, labels)
    return Grid(
        data,
        str(backbone),
        backbone,
        size.n_tokens,
        epochs,
        size.batch_size,
        2e-5,
        size.config.num_hidden_layers,
    )


def matrix_peak(n: int) -> float:
    """FLOP/s of a product of two n x n bf16 matrices on the device, the best of several."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def work(size: Size, epochs: int) -> tuple[float, float]:
    """Real tokens that a grid reads, and the FLOPs of its matrix products on them."""
    mean = 0.75 * size.n_tokens
    n_test = int(size.n_rows * TEST_SHARE)
    n_train = size.n_rows - n_test
    n_models = len(POOLERS) * FOLDS
    trained = n_models * epochs * n_train * (FOLDS - 1) / FOLDS * mean
    predicted = n_models * (n_train / FOLDS + n_test) * mean
    config = size.config
    weights = config.num_hidden_layers * (
        4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    )
    forward = 2 * weights + 4 * config.num_hidden_layers * config.hidden_size * mean  # attention
    return trained + predicted, (3 * trained + predicted) * forward


def table(
    chosen: list[Contender],
    found: dict[str, list[Measured]],
    size: Size,
    epochs: int,
    peak: float,
) -> list[str]:
    n_tokens, flops = work(size, epochs)
    width = max(len(each.name) for each in chosen)
    head = ("wall time", "ratio", "tokens/s", "of peak", "GPU memory", "memory")
    lines = [" " * width + "".join(f"{name:>12}" for name in head)]
    base = None
    for each in chosen:
        seconds = statistics.median(one.seconds for one in found[each.name])
        base = base or seconds
        gpu, host = (
            max(getattr(one, of) for one in found[each.name]) / 1e9 for of in ("gpu_peak", "peak")
        )
        cells = (
            f"{seconds:.1f} s",
            f"{seconds / base:.2f}",
            f"{n_tokens / seconds:,.0f}",
            f"{100 * flops / seconds / peak:.1f} %",
            f"{gpu:.2f} GB",
            f"{host:.2f} GB",
        )
        lines.append(f"{each.name:{width}}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


if __name__ == "__main__":
    main()
