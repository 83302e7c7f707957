"""What the presets cost and what they are worth: each trained, blended and predicted with, in turn.

  python benchmarks/presets.py --rows 1600
  python benchmarks/presets.py --csv input/disaster-tweets/train.csv --target target --rows 3000
  python benchmarks/presets.py --only fast,medium --set train.lr=2e-4 --set max_length=64

A fifth of the rows is kept as the test table. train.py and infer.py are real commands in a new
folder, whose seconds hold imports, loading and saving. The honest accuracy of the blend, which auto
chooses, has a 95 % bootstrap interval over rows; the best member's is honest, too: in each fold the
member that is best on the others. The last lines compare the presets' blends in pairs, on the same
rows. The size is that of all fold models and the bases they share.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from bench import ROOT, load_table, machine, timed
from grids import mean, run_all, write_tables
from poolblend import config, pipeline
from poolblend.config.presets import known_presets

RUN = "presets"


class Measured(NamedTuple):
    """Of one preset."""

    train: float  # seconds
    predict: float  # seconds
    hit_N: np.ndarray  # whether the blend has the row's class right
    member: str
    member_score: float
    blend: str
    n_folds: int  # fold models
    size: int  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, help="a train table (default: the demo competition's)")
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="target")
    parser.add_argument("--rows", type=int, default=1600, help="of train and test (default: 1600)")
    parser.add_argument("--only", default="fast,medium,best", help="default: fast,medium,best")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of all the configs"
    )
    args = parser.parse_args()
    presets = args.only.split(",")
    unknown = set(presets) - set(known_presets())
    if unknown:
        parser.error(f"--only {min(unknown)}: known are {', '.join(known_presets())}")
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), *load_table(args))
        print(f"{args.rows} rows; {machine()}", flush=True)
        found = {preset: measure(preset, Path(folder), args.set) for preset in presets}
    print("\n".join(table(found)))


def measure(preset: str, data: Path, sets: list[str]) -> Measured:
    """Train, blend and predict with the preset's settings in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        settings = {
            "run": RUN,
            "preset": preset,
            "task": "multiclass",
            "metric": "accuracy",
            "data": {"dir": str(data), "target": "label"},
            "store": folder,
        }
        path = store / f"{RUN}.yaml"
        path.write_text(yaml.safe_dump(settings))
        given = ["--config", str(path), "--quiet", *(f"--set={item}" for item in sets)]
        train, infer = ([sys.executable, str(ROOT / f"{name}.py")] for name in ("train", "infer"))
        train_seconds = timed(lambda: run_all([[*train, *given]], store, preset))
        print(f"{preset}: trained in {train_seconds:.0f} s", file=sys.stderr, flush=True)
        result = pipeline.blend(config.load(path, sets))
        infer_seconds = timed(lambda: run_all([[*infer, *given]], store, preset))
        card, models = result.card, store / "models"
        return Measured(
            train_seconds,
            infer_seconds,
            result.used.honest_pred_NK.argmax(axis=1) == result.matrix.y,
            card.choice.member,
            card.choice.member_score,
            card.blender,
            len(list(models.glob(f"{RUN}/*/fold*/card.json"))),
            sum(file.stat().st_size for file in models.rglob("*") if file.is_file()),
        )


def table(found: dict[str, Measured]) -> list[str]:
    """The lines of the printed table."""
    lines = [
        f"{'preset':8}  {'fold models':>11}  {'train':>9}  {'predict':>9}  "
        f"{'honest accuracy of the blend':38}  {'size':>8}  best member"
    ]
    for preset, one in found.items():
        score, low, high = mean(one.hit_N)
        honest = f"{score:.4f} ({low:.4f} to {high:.4f}), {one.blend}"
        lines.append(
            f"{preset:8}  {one.n_folds:11}  {one.train:7.1f} s  {one.predict:7.1f} s  "
            f"{honest:38}  {one.size / 1e6:5.0f} MB  {one.member} {one.member_score:.4f}"
        )
    for before, after in itertools.combinations(found, 2):
        gain, low, high = mean(found[after].hit_N * 1.0 - found[before].hit_N)
        lines.append(f"{after} over {before}: {gain:+.4f} ({low:+.4f} to {high:+.4f})")
    return lines


if __name__ == "__main__":
    main()
