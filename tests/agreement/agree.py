"""Do two environments agree? One run, trained in each, blended and inferred in both.

  python tests/agreement/agree.py --with .venv-kaggle/bin/python
  python tests/agreement/agree.py --with .venv-kaggle/bin/python --precision bf16

Each environment trains a small run with the real commands; then the other one blends the same
out-of-fold predictions and runs the same fold models. Exit status 1 where a weight of the blend
cards or a submitted probability differs by more than 1e-6.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6
CONFIG = """\
run: agree
metric: log_loss
data: {{dir: {folder}/data, target: results}}
folds: {{n: 3}}
max_length: 48
members: [mean, attention]
train: {{epochs: 1, precision: {precision}}}
store: {folder}/store
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--with", dest="other", required=True, metavar="PYTHON")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    args = parser.parse_args()
    other = str(Path(args.other).absolute())  # resolved, it would be no virtual environment's
    alone, differences = [], []
    for trainer, reader in ((sys.executable, other), (other, sys.executable)):
        with tempfile.TemporaryDirectory() as folder:
            submitted, found = compare(Path(folder), trainer, reader, args.precision)
        alone.append(submitted)
        differences += found
    apart = max(abs(a - b) for a, b in zip(*alone, strict=True))
    print(f"trained in each, submissions differ by up to {apart:.2g} (told, not judged)")
    print(f"largest difference of all: {max(differences):.2g}, allowed {TOLERANCE:.0e}")
    sys.exit(max(differences) > TOLERANCE)


def compare(
    folder: Path, trainer: str, reader: str, precision: str
) -> tuple[list[float], list[float]]:
    """What the trainer submits, and how far the reader is from its submission and its weights."""
    write_tables(folder / "data")
    config = folder / "agree.yaml"
    config.write_text(CONFIG.format(folder=folder, precision=precision), encoding="utf-8")
    oof = folder / "store" / "oof" / "agree"
    for script in ("train", "blend", "infer"):
        run(trainer, script, config)
    own, weights = submission(folder), blend_weights(oof)
    for kept in oof.glob("*/test_fold*.parquet"):  # else the reader would take the trainer's
        kept.unlink()
    run(reader, "infer", config)
    found = [largest(own, submission(folder))]
    (oof / "blend.json").unlink()
    run(reader, "blend", config)
    others = blend_weights(oof)
    if weights.keys() != others.keys():
        apart = ", ".join(sorted(weights.keys() ^ others.keys()))
        sys.exit(f"error: the blend cards of the two environments differ in: {apart}")
    found += [largest(values, others[name]) for name, values in weights.items()]
    print(f"{trainer} trained, {reader} read: submission {found[0]:.2g}, weights:")
    for name, difference in zip(weights, found[1:], strict=True):
        print(f"  {name} {difference:.2g}")
    return list(own.values()), found


def write_tables(folder: Path) -> None:
    """A competition of the project's own prose: is a line from docs/results.md?"""
    folder.mkdir()
    lines = [
        (line, int(name == "results"))
        for name in ("results", "decisions")
        for line in (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").splitlines()
        if len(line) > 40
    ]
    rows = [(f"r{i:03d}", *row) for i, row in enumerate(lines)]
    header = ("id", "text", "results")
    test = rows[::3]
    tables = {
        "train": (header, [row for i, row in enumerate(rows) if i % 3]),
        "test": (header[:2], [row[:2] for row in test]),
        "sample_submission": (header[::2], [(row[0], 0.5) for row in test]),
    }
    for name, (columns, cells) in tables.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *cells])


def run(python: str, script: str, config: Path) -> None:
    done = subprocess.run(
        [python, str(ROOT / f"{script}.py"), "--config", str(config), "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
    )
    if done.returncode:
        sys.exit(f"error: {python} {script}.py ended with status {done.returncode}\n{done.stderr}")


def submission(folder: Path) -> dict[str, float]:
    path = folder / "store" / "submissions" / "agree" / "submission.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {row["id"]: float(row["results"]) for row in csv.DictReader(file)}


def blend_weights(oof: Path) -> dict[str, dict[str, float]]:
    """Each blender's weights and those in use, under names that tell which space and which won."""
    card = json.loads((oof / "blend.json").read_text(encoding="utf-8"))
    used = {name: member["weight"] for name, member in card["members"].items()}
    told = {f"in use: {card['blender']}": used}
    for name, blender in card["blenders"].items():
        values = [weight for weights in blender["weights"] for weight in weights]
        told[f"{name} ({blender['space']})"] = dict(zip(used, values, strict=True))
    return told


def largest(ours: dict[str, float], theirs: dict[str, float]) -> float:
    if ours.keys() != theirs.keys():
        sys.exit("error: the two environments wrote different ids or members")
    return max(abs(ours[name] - theirs[name]) for name in ours)


if __name__ == "__main__":
    main()
