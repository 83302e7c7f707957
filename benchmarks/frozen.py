"""What frozen layers save: whole frozen members, here and in another commit, and half a model.

  python benchmarks/frozen.py --against 1415bc7        5 frozen poolers x 5 folds, train and infer
  python benchmarks/frozen.py --against 1415bc7 --csv train.csv --target score --max-length 512
  python benchmarks/frozen.py --rate                   rows a second with half the layers frozen

The commands are real ones, in new folders, in turn. With --against the same run is done by the
commit's own commands, in a worktree that is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from bench import ROOT, load_table, machine
from grids import write_tables
from poolblend.modeling.options import MINILM

FROZEN = ["mean", "max", "cls", "last", "mean_max"]  # poolers without weights of their own
RUN = "frozen"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REV", help="the commit to compare with")
    parser.add_argument("--rate", action="store_true", help="a half-frozen and an unfrozen model")
    parser.add_argument("--rows", type=int, default=1600, help="of train and test (default: 1600)")
    parser.add_argument("--csv", type=Path, help="a train table (default: the demo competition's)")
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="target")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--test-share", type=float, default=0.2, help="of the rows (default: 0.2)")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--backbone", type=Path, help="a folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--half", type=int, default=3, help="layers to freeze with --rate")
    args = parser.parse_args()
    if not args.against and not args.rate:
        parser.error("give --against REV, or --rate")
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        write_tables(data, *load_table(args), args.test_share)
        size = f"{args.rows} rows of at most {args.max_length} tokens, {args.test_share} test"
        print(f"{size}; {machine()}; median of {args.runs}")
        if args.rate:
            print_rates(args, data)
        if args.against:
            print_against(args, data, Path(name) / "tree")


def settings(args: argparse.Namespace, data: Path, store: Path, **own: object) -> list[str]:
    """The flags of a run whose config has the keys `own`."""
    common = {
        "run": RUN,
        "task": "multiclass",
        "metric": "accuracy",
        "data": {"dir": str(data), "target": "label"},
        "store": str(store),
        "backbone": str(args.backbone or MINILM),
        "max_length": args.max_length,
    }
    config = store / f"{RUN}.yaml"
    config.write_text(yaml.safe_dump(common | own))
    return ["--config", str(config), "--quiet"]


def command(tree: Path, script: str, flags: list[str]) -> float:
    """Seconds that a tree's script takes; SystemExit with its output where it fails."""
    started = time.perf_counter()
    given = [sys.executable, str(tree / script), *flags]
    done = subprocess.run(given, check=False, capture_output=True, text=True, cwd=tree)
    if done.returncode != 0:
        raise SystemExit(f"{tree / script} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def print_against(args: argparse.Namespace, data: Path, tree: Path) -> None:
    """5 frozen poolers x 5 folds: train.py, blend.py and infer.py here and in the commit."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(tree), args.against], check=True, stdout=2)
    try:
        seconds: dict[Path, list[float]] = {ROOT: [], tree: []}
        for _ in range(args.runs):
            for each, taken in seconds.items():
                taken.append(train_and_infer(args, data, each))
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    here, there = (statistics.median(taken) for taken in seconds.values())
    print(
        f"5 frozen poolers x 5 folds, train and infer: {here:.1f} s here, {there:.1f} s in "
        f"{args.against}, {there / here:.1f} x"
    )


def train_and_infer(args: argparse.Namespace, data: Path, tree: Path) -> float:
    """Seconds of train.py and infer.py; blend.py between them does not count."""
    members = [{"pooler": pooler, "head": "logistic"} for pooler in FROZEN]
    blend = {"fitter": "equal", "fitters": ["equal"]}
    with tempfile.TemporaryDirectory() as store:
        flags = settings(args, data, Path(store), members=members, folds={"n": 5}, blend=blend)
        trained = command(tree, "train.py", flags)
        command(tree, "blend.py", flags)
        return trained + command(tree, "infer.py", flags)


def print_rates(args: argparse.Namespace, data: Path) -> None:
    """Rows a second of one fold model's epochs, and its whole command, with and without."""
    rates: dict[str, list[float]] = {"unfrozen": [], "half": []}
    whole: dict[str, list[float]] = {"unfrozen": [], "half": []}
    for _ in range(args.runs):
        for name, rate in rates.items():
            train = {"epochs": 2, "freeze_layers": args.half if name == "half" else None}
            with tempfile.TemporaryDirectory() as store:
                flags = settings(
                    args, data, Path(store), members=["mean"], folds={"n": 5}, train=train
                )
                whole[name].append(command(ROOT, "train.py", [*flags, "--fold", "0"]))
                (card,) = Path(store, "models").rglob("fold0/card.json")
                made = json.loads(card.read_text())
                seconds = sum(epoch["seconds"] for epoch in made["epochs"])
                rate.append(2 * made["rows"]["train"] / seconds)
    table = pd.DataFrame(
        {
            "rows a second": {name: statistics.median(each) for name, each in rates.items()},
            "command, s": {name: statistics.median(each) for name, each in whole.items()},
        }
    )
    table["x rows a second"] = table["rows a second"] / table["rows a second"]["unfrozen"]
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
