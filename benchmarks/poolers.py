"""Does mixing poolers add diversity? Train the study's members, and draw its page.

  python benchmarks/poolers.py tune trec --data ~/trec    learning rates, on rows outside the study
  python benchmarks/poolers.py train trec --data ~/trec   all members that the matrix lacks
  python benchmarks/poolers.py train trec --data ~/trec --time-limit 90m
  python benchmarks/poolers.py draw                       docs/pooler-study.md, from the matrix

The design is in docs/pooler-study.md, what is trained in pooler_grid.py. Training goes on in rounds
of one seed: when a round is done, its out-of-fold and test predictions are added to the matrix in
docs/pooler-study, and its models are deleted. A round that was interrupted is continued.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bench  # also lets poolblend be imported
import poolblend as pb
from poolblend import config
from poolblend.commands import command_line
from pooler_grid import STUDIED, Studied, members, rows_of, settings
from pooler_matrix import STORED, name_of

RATES = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
TUNED = ("mean", "cls", "max")
RUN = "study"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("tune", "train", "draw"))
    parser.add_argument("competition", nargs="?", choices=tuple(STUDIED))
    parser.add_argument("--data", type=Path, help="the folder with the competition's CSVs")
    place = bench.ROOT / "cache" / "pooler-study"
    parser.add_argument("--store", type=Path, default=place, help="of unfinished rounds")
    parser.add_argument(
        "--time-limit", default="100h", help="begin no round after it; default: 100h"
    )
    parser.add_argument("--workers", default="auto", help="processes; default: auto")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="to try it out"
    )
    parser.add_argument("--matrix", type=Path, default=STORED, help="where the matrix is")
    args = parser.parse_args()
    if args.command == "draw":
        import pooler_page

        pooler_page.write(args.matrix)
        return
    if args.competition is None or args.data is None:
        parser.error(f"{args.command} needs a competition ({', '.join(STUDIED)}) and --data FOLDER")
    studied = STUDIED[args.competition]
    (tune if args.command == "tune" else train)(studied, args)


# --- training -----------------------------------------------------------------------------------


def train(studied: Studied, args: argparse.Namespace) -> None:
    """Train the members that the matrix lacks, round by round."""
    end = time.monotonic() + config.parse_duration(args.time_limit)
    folder = args.matrix / studied.name
    rows, _, test = rows_of(studied, args.data)
    there = set(pd.read_csv(folder / "members.csv")["member"]) if folder.exists() else set()
    for seed, round_ in itertools.groupby(members(studied), lambda member: member.get("seed", 0)):
        waiting = [member for member in round_ if name_of(member) not in there]
        if not waiting:
            continue
        if time.monotonic() > end:
            print(f"stopped by the time limit before the round of seed {seed}")
            return
        place = args.store / studied.name / f"seed{seed}"
        run = run_of(studied, rows, test, place, waiting, args.set)
        run.train(workers=args.workers, time_limit=max(1.0, end - time.monotonic()))
        if run.leaderboard()["score"].isna().any():
            print(f"the round of seed {seed} is not finished; the same command continues")
            return
        run.blend()
        run.submit_file(workers=args.workers)
        add(folder, run, place, len(waiting))
        shutil.rmtree(place)


def run_of(
    studied: Studied,
    rows: pd.DataFrame,
    test: pd.DataFrame,
    place: Path,
    chosen: list[dict[str, Any]],
    sets: Iterable[str] = (),
    **keys: Any,
) -> pb.Run:
    given = dict(item.split("=", 1) for item in sets)
    return pb.Run(
        train=rows,
        test=test,
        name=RUN,
        folder=place,
        id="id",
        text=studied.text,
        target=studied.target,
        members=chosen,
        set={**settings(studied), **{key: _value(text) for key, text in given.items()}, **keys},
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def add(folder: Path, run: pb.Run, place: Path, n: int) -> None:
    """Add the round's members to the matrix in `folder`, all files at once at the end."""
    oof = run.oof()
    prefix = f"{run.config.backbone.name}-"
    names = {column: column.removeprefix(prefix) for column in oof.columns[3:]}
    oof = _with(folder / "oof.parquet", oof.rename(columns=names), 3)
    fold_files = sorted(place.glob(f"oof/{RUN}/*/test_fold*.parquet"))
    by_member = itertools.groupby(fold_files, lambda path: path.parent.name)
    test = None
    for member, files in by_member:
        tables = [pd.read_parquet(path).set_index("id") for path in files]
        mean = sum(tables) / len(tables)
        own = member.removeprefix(prefix)
        several = len(mean.columns) > 1
        mean.columns = [own + f":{c.removeprefix('pred_')}" * several for c in mean.columns]
        test = mean if test is None else test.join(mean)
    test = _with(folder / "test.parquet", test.reset_index(), 1)
    facts = pd.DataFrame([_facts(path, prefix) for path in sorted(place.glob(f"models/{RUN}/*"))])
    assert len(facts) == n, f"{len(facts)} members of {n} were trained in {place}"
    path = folder / "members.csv"
    facts = pd.concat([pd.read_csv(path), facts]) if path.exists() else facts
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("oof", oof), ("test", test)):
        floats = {c: np.float32 for c in table.columns if table[c].dtype == np.float64}
        table.astype(floats).to_parquet(folder / f".{name}", index=False, compression="zstd")
    # members.csv last: it says which members are there.
    for name in ("oof", "test"):
        (folder / f".{name}").replace(folder / f"{name}.parquet")
    facts.to_csv(folder / ".members", index=False)
    (folder / ".members").replace(path)
    print(f"{folder}: {len(facts)} members", flush=True)


def _with(path: Path, new: pd.DataFrame, n_keys: int) -> pd.DataFrame:
    """The table at `path` with the new one's members; SystemExit for other rows or folds."""
    if not path.exists():
        return new
    old = pd.read_parquet(path)
    if not old.iloc[:, :n_keys].astype(str).equals(new.iloc[:, :n_keys].astype(str)):
        sys.exit(f"error: {path} has other rows or folds than this round; its matrix is another")
    fresh = new.columns[n_keys:].difference(old.columns, sort=False)
    return pd.concat([old, new[fresh]], axis=1)


def _facts(folder: Path, prefix: str) -> dict[str, Any]:
    """What a member cost, from its fold models' cards."""
    cards = [json.loads(path.read_text()) for path in sorted(folder.glob("fold*/card.json"))]
    weights = next(folder.glob("fold0/model.safetensors"))
    return {
        "member": folder.name.removeprefix(prefix),
        "train_seconds": round(sum(card["seconds"] for card in cards), 1),
        "predict_seconds_per_1000": round(
            1000 * sum(c["prediction"]["seconds"] / c["prediction"]["rows"] for c in cards), 2
        ),
        "parameters_above_encoder": _parameters(weights),
        "threads": cards[0].get("threads"),
    }


def _parameters(weights: Path) -> int | None:
    """The number of weights that are not the encoder's, from the head of a safetensors file."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    own = [v["shape"] for k, v in header.items() if k != "__metadata__" and "encoder." not in k]
    return sum(math.prod(shape) for shape in own)


# --- tuning -------------------------------------------------------------------------------------


def tune(studied: Studied, args: argparse.Namespace) -> None:
    """Print the log loss of a few poolers at each learning rate, on rows outside the study."""
    _, rows, test = rows_of(studied, args.data)
    for rate in RATES:
        place = args.store / studied.name / f"tuning-{rate}"
        chosen = [{"pooler": pooler, "seed": 1} for pooler in TUNED]
        keys = {"train.lr": rate, "metric": "log_loss"}
        run = run_of(studied, rows, test, place, chosen, args.set, **keys)
        board = run.train(workers=args.workers)
        shown = ", ".join(
            f"{name} {score:.4f}" for name, score in board["score"].sort_index().items()
        )
        print(f"lr {rate}: log loss {board['score'].mean():.4f} ({shown})", flush=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    command_line.run(main)
