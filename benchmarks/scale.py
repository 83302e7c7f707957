"""The blend of very many members and rows: seconds, memory, and what fitting on a sample costs.

  python benchmarks/scale.py                                   1,000 members x 1,000,000 rows
  python benchmarks/scale.py --members 100 --rows 200000 --metric rmse --exact
  python benchmarks/scale.py --keep ~/scale                    a second run makes no store again

It writes a store of made-up fold models and their OOF files (10 MB a member), and runs blend.py in
a process of its own. Members see one signal through noise, a part of which each has in common with
others of its kind, so that a good blend leaves most of them out. `--exact` (for rmse) finds the
convex weights of least squared error on all rows, from second moments, and compares their loss with
that of the weights that blend.py has fitted on its sample.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
import yaml
from scipy.optimize import nnls
from scipy.special import expit

from bench import ROOT, bare_card, machine
from poolblend import config
from poolblend.config import Config
from poolblend.loading.competition import load_competition, open_store
from poolblend.store.predictions import from_table, to_table

RUN, N_FOLDS, KINDS = "scale", 2, 20
METRICS = {"log_loss": "binary", "roc_auc": "binary", "rmse": "regression"}
BLOCK = 20_000  # rows whose moments are added up at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--metric", choices=METRICS, default="log_loss")
    parser.add_argument("--fitters", default="equal,best,convex,greedy")
    parser.add_argument("--keep", type=Path, help="a folder for the store (default: a temporary)")
    parser.add_argument("--exact", action="store_true")
    args = parser.parse_args()
    if args.exact and args.metric != "rmse":
        parser.error("--exact needs --metric rmse")
    with ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{args.members} members x {args.rows} rows, {args.metric}; {machine()}")
        settings = write_store(folder, args)
        blend(folder)
        if args.exact:
            compare_with_all_rows(settings)


# --- the store ----------------------------------------------------------------------------------


def write_store(folder: Path, args: argparse.Namespace) -> Config:
    """The tables, the config and the folds of all members; what is there already is kept."""
    rng = np.random.default_rng(0)
    signal_N = rng.normal(size=args.rows).astype(np.float32)
    task = METRICS[args.metric]
    noisy_N = signal_N + rng.normal(size=args.rows)
    label_N = noisy_N if task == "regression" else (noisy_N > 0).astype(int)
    if not (folder / "train.csv").exists():
        ids = [f"r{n:07d}" for n in range(args.rows)]
        table = pd.DataFrame({"id": ids, "text": [f"the text of {id}" for id in ids]})
        table.assign(target=label_N).to_csv(folder / "train.csv", index=False)
        table[:10].to_csv(folder / "test.csv", index=False)
        table[["id"]][:10].assign(target=0).to_csv(folder / "sample_submission.csv", index=False)
    written = {
        "run": RUN,
        "task": task,
        "metric": args.metric,
        "data": {"dir": str(folder), "target": "target"},
        "store": str(folder),
        "folds": {"n": N_FOLDS},
        "members": ["mean"],
        "seeds": list(range(args.members)),
        "blend": {"fitters": args.fitters.split(",")},
    }
    (folder / f"{RUN}.yaml").write_text(yaml.safe_dump(written))
    settings = config.load(folder / f"{RUN}.yaml")
    started = time.perf_counter()
    write_folds(settings, signal_N)
    print(f"the store was written in {time.perf_counter() - started:.0f} s", flush=True)
    return settings


def write_folds(settings: Config, signal_N: np.ndarray) -> None:
    store = open_store(settings)
    competition = load_competition(settings, store, make_folds=True)
    fold_N, task = competition.fold_N, competition.task
    ids_N = competition.tables.train[competition.tables.id].to_numpy()
    common_KN = np.random.default_rng(1).normal(size=(KINDS, len(signal_N))).astype(np.float32)
    keys = ("train_sha256", "folds_sha256")
    inputs = {key: competition.data[key] for key in keys} | {"task": task}
    for number, member in enumerate(settings.resolve_members()):
        if store.fold(member.name, N_FOLDS - 1).card() is not None:
            continue
        rng = np.random.default_rng([2, number])
        size = rng.uniform(0.5, 1.5)
        noise_N = common_KN[number % KINDS] + rng.normal(size=len(signal_N)).astype(np.float32)
        seen_N = signal_N + size * noise_N
        pred_N = expit(seen_N) if task.kind == "binary" else seen_N
        for fold in range(N_FOLDS):
            row_N = np.flatnonzero(fold_N == fold)
            store.fold(member.name, fold).save(
                tensors={"head.weight": torch.zeros(1)},
                parts=[],
                oof=to_table(ids_N[row_N], pred_N[row_N, None], task.outputs, fold),
                make_card=lambda hashes, m=member, f=fold: bare_card(m, f, hashes, **inputs),
            )


# --- the blend ----------------------------------------------------------------------------------


def blend(folder: Path) -> None:
    """Run blend.py, and print its time, its memory and its scores."""
    command = [sys.executable, str(ROOT / "blend.py"), "--config", str(folder / f"{RUN}.yaml")]
    log = folder / "blend.log"
    started, own, mapped = time.perf_counter(), 0, 0
    with log.open("w") as out:
        process = psutil.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                info = process.memory_info()
                own, mapped = max(own, info.rss - info.shared), max(mapped, info.shared)
            except psutil.Error:
                break
            time.sleep(0.2)
    if process.wait() != 0:
        raise SystemExit(f"blend.py failed:\n{log.read_text()[-3000:]}")
    print(
        f"blend.py: {time.perf_counter() - started:.0f} s; peak of its own memory "
        f"{own / 1e9:.2f} GB, of files that it maps, which the system may drop, {mapped / 1e9:.2f}"
    )
    card = json.loads((folder / "oof" / RUN / "blend.json").read_text())
    for name, scores in card["blenders"].items():
        used = sum(any(weight > 0 for weight in row) for row in scores["weights"])
        low, high = scores["over_equal"]["low"], scores["over_equal"]["high"]
        print(
            f"  {name:8} {used:5} members  honest {scores['honest']:.5f}  in-sample "
            f"{scores['in_sample']:.5f}  over equal {low:+.5f} to {high:+.5f}"
        )


def compare_with_all_rows(settings: Config) -> None:
    """Print the squared error of convex weights from all rows, and of the sample's."""
    store = open_store(settings)
    competition = load_competition(settings, store)
    card = store.read_blend()
    names = list(card.members)  # in the order of the card's weights
    y_N = competition.scored[:, 0]
    ids_N = competition.tables.train[competition.tables.id].to_numpy()
    pred_MN = np.empty((len(names), len(y_N)), dtype=np.float32)
    for m, name in enumerate(names):
        tables = pd.concat([store.fold(name, fold).oof() for fold in range(N_FOLDS)])
        pred_MN[m] = from_table(tables, ids_N, competition.task.outputs)[:, 0]
    zz_MM, zt_M = np.zeros((len(names), len(names))), np.zeros(len(names))
    for start in range(0, len(y_N), BLOCK):
        z_MB = pred_MN[:, start : start + BLOCK].astype(np.float64)
        zz_MM += z_MB @ z_MB.T
        zt_M += z_MB @ y_N[start : start + BLOCK]
    # Least squares with weights of at least 0 that sum to 1: the sum is one more, heavy row.
    root_MM = np.linalg.cholesky(zz_MM)
    heavy = 1e3 * np.sqrt(np.diag(zz_MM).max())
    rows = np.vstack([root_MM.T, np.full(len(names), heavy)])
    wanted = np.append(np.linalg.solve(root_MM, zt_M), heavy)
    exact_M, _ = nnls(rows, wanted, maxiter=50 * len(names))
    exact_M /= exact_M.sum()
    convex = card.blenders["convex"].weights
    weights = {"all rows": exact_M, "the sample": np.array(convex)[:, 0]}
    for what, weight_M in weights.items():
        error = weight_M @ zz_MM @ weight_M - 2 * weight_M @ zt_M + y_N @ y_N
        print(
            f"convex weights of {what}: rmse {np.sqrt(error / len(y_N)):.6f} on all rows, "
            f"{np.count_nonzero(weight_M)} members"
        )


if __name__ == "__main__":
    main()
