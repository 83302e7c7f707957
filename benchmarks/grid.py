"""A whole grid, 3 models x 3 folds trained, predicted and saved: ours, Trainer, and others.

  python benchmarks/grid.py
  python benchmarks/grid.py --rows 3000 --runs 3 --only ours,trainer
  python benchmarks/grid.py --csv input/disaster-tweets/train.csv --target target

The contenders take turns, each in real commands and a new folder, so that loading and saving count.
The table holds medians of the wall time, the ratio to Trainer's nine trainings one by one, the OOF
accuracy of the equal mean with its interval, and the peak memory of all processes of a contender.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from bench import encoder_folder, load_table, machine
from grids import (
    Contender,
    Grid,
    Measured,
    accuracy,
    hf,
    measure,
    ours,
    truth,
    write_tables,
)
from poolblend.modeling.options import MINILM

CONTENDERS = {
    "trainer": hf("Trainer, one by one"),
    "two": hf("Trainer, two processes of one thread", "--threads", "1", processes=2),
    "notebook": hf("notebook: padded to 128, fp32", "--notebook"),
    "ours": ours("ours, one worker"),
    "workers": ours("ours, --workers auto", workers="auto"),
    "half": ours("ours, --workers auto, half the layers frozen", workers="auto", half=True),
    "frozen": ours("ours, --workers auto, frozen encoder", workers="auto", frozen=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, help="a train table (default: the demo competition's)")
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="target")
    parser.add_argument("--backbone", type=Path, help="a folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--rows", type=int, default=450, help="of train and test (default: 450)")
    parser.add_argument("--runs", type=int, default=1, help="of each contender (default: 1)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--only", default=",".join(CONTENDERS), help=f"of {', '.join(CONTENDERS)}")
    args = parser.parse_args()
    unknown = set(args.only.split(",")) - set(CONTENDERS)
    if unknown:
        parser.error(f"--only {min(unknown)}: known are {', '.join(CONTENDERS)}")
    contenders = [CONTENDERS[name] for name in args.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), *load_table(args))
        grid = _grid(args, Path(folder))
        print(
            f"{args.rows} rows, batch {args.batch_size}, {args.epochs} epochs; {machine()}; "
            f"median of {args.runs}"
        )
        found = race(contenders, grid, args.runs)
        print("\n".join(table(contenders, grid, found)))


def _grid(args: argparse.Namespace, data: Path) -> Grid:
    from transformers import AutoConfig

    folder = args.backbone or encoder_folder()
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return Grid(
        data,
        str(args.backbone or MINILM),
        folder,
        args.max_length,
        args.epochs,
        args.batch_size,
        args.lr,
        config.num_hidden_layers,
    )


def race(contenders: list[Contender], grid: Grid, runs: int) -> dict[str, list[Measured]]:
    """What each contender took in each run; they take turns, so that a busy moment hurts all."""
    found: dict[str, list[Measured]] = {each.name: [] for each in contenders}
    for run in range(runs):
        for each in contenders:
            with tempfile.TemporaryDirectory() as folder:
                found[each.name].append(measure(each, grid, Path(folder)))
            seconds = found[each.name][-1].seconds
            print(f"run {run + 1}: {each.name} {seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def table(contenders: list[Contender], grid: Grid, found: dict[str, list[Measured]]) -> list[str]:
    """The lines of the printed table; ratios are to the first contender."""
    y, seconds = truth(grid), {}
    for each in contenders:
        seconds[each.name] = statistics.median(one.seconds for one in found[each.name])
    base = seconds[contenders[0].name]
    width = max(len(each.name) for each in contenders)
    lines = [
        f"{'':{width}}  {'wall time':>9}  {'ratio':>5}  {'OOF accuracy':>23}  {'peak memory':>11}"
    ]
    for each in contenders:
        score, low, high = accuracy(y, found[each.name][-1].oof)
        peak = max(one.peak for one in found[each.name])
        lines.append(
            f"{each.name:{width}}  {seconds[each.name]:7.1f} s  "
            f"{seconds[each.name] / base:5.2f}  {score:.4f} ({low:.4f} to {high:.4f})  "
            f"{peak / 1e9:8.2f} GB"
        )
    return lines


if __name__ == "__main__":
    main()
