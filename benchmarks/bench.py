"""What the benchmarks share: rows to run on, the encoder, and medians of interleaved runs."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np
import torch

from poolblend.cards.fold import (
    BackboneHashes,
    FoldCard,
    FoldFileHashes,
    FoldInputs,
    RowCounts,
    TokenCount,
)
from poolblend.cards.provenance import Provenance
from poolblend.competition.demo import build_demo
from poolblend.competition.files import read_table
from poolblend.competition.tasks import Task
from poolblend.config import Member
from poolblend.modeling.options import MINILM, MINILM_SHA256
from poolblend.modeling.sources import locate
from poolblend.text_spec import TextSpec
from poolblend.training.devices import Precision

MAX_LENGTH = 128


def arguments(doc: str | None, **numbers: int) -> argparse.Namespace:
    """The flags of all benchmarks, and whole numbers of one's own with their defaults."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, help="train table (default: the demo competition's)")
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="target")
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--runs", type=int, default=3)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def load_table(args: argparse.Namespace) -> tuple[list[str], list[object]]:
    """Texts and labels of `args.rows` rows: of the table `args.csv`, or the demo competition's."""
    if args.csv is None:
        table, target = build_demo(max(args.rows, 12), 12)["train"], "library"
    else:
        table, target = read_table(args.csv), args.target
    table = table.iloc[: args.rows]
    return list(table[args.text]), list(table[target])


def load_rows(args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """Texts, and 0 or 1 for each: whether its label is the commonest."""
    texts, labels = load_table(args)
    commonest = statistics.mode(labels)
    return texts, np.array([label == commonest for label in labels], dtype=np.int64)


def encoder_folder() -> Path:
    return locate(MINILM, MINILM_SHA256)[0]


def race(runners: dict[str, Callable[[], float]], runs: int) -> dict[str, float]:
    """Median seconds of each runner, taking turns so that a busy moment hurts them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(runs):
        for name, runner in runners.items():
            seconds[name].append(runner())
            print(f"run {number + 1}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def machine() -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    return f"{device}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"


def bare_card(
    member: Member,
    fold: int,
    hashes: FoldFileHashes,
    *,
    precision: Precision = "fp32",
    **inputs: Any,
) -> FoldCard:
    """The card of a fold that was not trained; `inputs` are fields of `FoldInputs`."""
    none = "0" * 64
    given: dict[str, Any] = {
        "train_sha256": none,
        "folds_sha256": none,
        "task": Task("binary", ("target",), (0, 1)),
        "reading": TextSpec(text=("text",), max_length=MAX_LENGTH),
        "backbone_sha256": none,
        "backbone_files_sha256": none,
        "settings": {},
    }
    return FoldCard(
        member=member,
        fold=fold,
        inputs=FoldInputs(**given | inputs),
        backbone=BackboneHashes(weights_sha256=none, files_sha256=none),
        seed=1,
        tokens=TokenCount(count=1, sha256=none),
        rows=RowCounts(train=1, valid=1),
        metric="log_loss",
        score=None,
        device="cpu",
        precision=precision,
        seconds=0.0,
        config={},
        provenance=_provenance(),
        files=hashes,
    )


@cache
def _provenance() -> Provenance:
    return Provenance.here()
