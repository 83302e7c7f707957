"""The contenders of grid.py and gpu.py: ways to train 3 models x 3 folds and predict with them.

Each is one or more real commands in a new folder; what is measured of them is the time of all, with
loading, predicting and saving, and the memory of all their processes. `hf_grid.py` is the rival's.

Legend: N rows, K classes.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
HF = ROOT / "benchmarks" / "hf_grid.py"
RUN = "grid"
POOLERS, FOLDS = ["mean", "max", "attention"], 3
TEST_SHARE = 0.2  # of all rows

Commands = list[list[str]]


@dataclass(frozen=True)
class Grid:
    """What all contenders train: tables in `data`, with a backbone and the options of training."""

    data: Path
    backbone: str  # a folder, or a package's
    folder: Path  # the same, as a folder
    max_length: int
    epochs: int
    batch_size: int
    lr: float
    n_layers: int


@dataclass(frozen=True)
class Contender:
    """`steps` are done one after another, the commands of each at the same time."""

    name: str
    steps: Callable[[Grid, Path], list[Commands]]  # of the grid and an empty folder
    oof: Callable[[Grid, Path], np.ndarray]  # then: class probabilities (N, K) out of fold


@dataclass(frozen=True)
class Measured:
    """Of one contender in one run."""

    seconds: float
    peak: float  # bytes in memory of all processes together
    gpu_peak: float  # bytes in use on the GPUs; 0 without one
    oof: np.ndarray


# --- the contenders -----------------------------------------------------------------------------


def hf(name: str, *flags: str, processes: int = 1) -> Contender:
    """transformers' Trainer: `processes` of them, each with its share of the nine trainings."""

    def steps(grid: Grid, folder: Path) -> list[Commands]:
        common = [sys.executable, str(HF), str(grid.data), str(grid.folder), str(folder)]
        for key in ("max_length", "epochs", "batch_size", "lr"):
            common += [f"--{key.replace('_', '-')}", str(getattr(grid, key))]
        share = [["--part", str(part), "--of", str(processes)] for part in range(processes)]
        return [[[*common, *flags, *part] for part in share]]

    return Contender(name, steps, _hf_oof)


def ours(
    name: str, *, workers: str | None = None, frozen: bool = False, half: bool = False
) -> Contender:
    """The three commands; all layers frozen under scikit-learn's heads, or half of them."""

    def steps(grid: Grid, folder: Path) -> list[Commands]:
        members: list[object] = list(POOLERS)
        if frozen:  # a frozen encoder has no attention pooler to train
            members = [{"pooler": each, "head": "logistic"} for each in ("mean", "max", "cls")]
        train = {"epochs": grid.epochs, "batch_size": grid.batch_size, "lr": grid.lr}
        if half:
            train["freeze_layers"] = grid.n_layers // 2
        settings = {
            "run": RUN,
            "task": "multiclass",
            "metric": "accuracy",
            "data": {"dir": str(grid.data), "target": "label"},
            "store": str(folder),
            "folds": {"n": FOLDS},
            "backbone": grid.backbone,
            "max_length": grid.max_length,
            "members": members,
            "train": train,
            "blend": {"fitter": "equal", "fitters": ["equal"]},
        }
        config = folder / f"{RUN}.yaml"
        config.write_text(yaml.safe_dump(settings))
        count = [] if workers is None else ["--workers", workers]
        given = ["--config", str(config), "--quiet"]
        return [
            [[sys.executable, str(ROOT / "train.py"), *given, *count]],
            [[sys.executable, str(ROOT / "blend.py"), *given]],
            [[sys.executable, str(ROOT / "infer.py"), *given, *count]],
        ]

    return Contender(name, steps, _our_oof)


def _hf_oof(grid: Grid, folder: Path) -> np.ndarray:
    """The mean over the models of each fold."""
    total = None
    for file in sorted(folder.glob("model*/oof.npz")):
        with np.load(file) as saved:
            if total is None:
                total = np.zeros((int(saved["n_rows"]), saved["oof"].shape[1]))
            total[saved["rows"]] += saved["oof"]
    if total is None:
        raise SystemExit(f"{folder} holds no predictions")
    return total / len(POOLERS)


def _our_oof(grid: Grid, folder: Path) -> np.ndarray:
    """The equal mean of the members, rows and classes in the order of hf_grid.py's."""
    ids = pd.read_csv(grid.data / "train.csv", dtype=str)["id"]
    members = [path for path in (folder / "oof" / RUN).iterdir() if path.is_dir()]
    total = 0.0
    for member in members:
        files = member.glob("fold*.parquet")
        table = pd.concat([pd.read_parquet(file) for file in files]).set_index("id")
        columns = sorted(name for name in table if name.startswith("pred_"))
        total = total + table.loc[ids, columns].to_numpy()
    return np.asarray(total) / len(members)


# --- the tables ---------------------------------------------------------------------------------


def write_tables(
    folder: Path, texts: Sequence[str], labels: Sequence[object], test_share: float = TEST_SHARE
) -> None:
    """train.csv, test.csv and sample_submission.csv of a competition with these rows."""
    names = [f"c{label}" for label in labels]  # words: numbers would be another task's
    table = pd.DataFrame({"id": [f"r{n}" for n in range(len(texts))], "text": texts})
    n_train = len(texts) - int(len(texts) * test_share)
    table[:n_train].assign(label=names[:n_train]).to_csv(folder / "train.csv", index=False)
    table[n_train:].to_csv(folder / "test.csv", index=False)
    sample = table.loc[table.index >= n_train, ["id"]].assign(label=min(names))
    sample.to_csv(folder / "sample_submission.csv", index=False)


def truth(grid: Grid) -> np.ndarray:
    """(N,) the classes' numbers in sorted order."""
    return pd.factorize(pd.read_csv(grid.data / "train.csv")["label"], sort=True)[0]


def accuracy(y: np.ndarray, oof: np.ndarray, resamples: int = 1000) -> tuple[float, float, float]:
    """Of the classes with the largest share, with a 95 % bootstrap interval over rows."""
    return mean(oof.argmax(axis=1) == y, resamples)


def mean(values_N: np.ndarray, resamples: int = 1000) -> tuple[float, float, float]:
    """With a 95 % bootstrap interval over rows."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(values_N.astype(float), (resamples, len(values_N))).mean(axis=1)
    return (float(values_N.mean()), *np.quantile(drawn, [0.025, 0.975]).tolist())


# --- measuring ----------------------------------------------------------------------------------


def measure(contender: Contender, grid: Grid, folder: Path) -> Measured:
    """Run the contender's commands in the empty folder; SystemExit where one of them fails."""
    watch = _Memory()
    started = time.perf_counter()
    with watch:
        for commands in contender.steps(grid, folder):
            run_all(commands, folder, contender.name)
    seconds = time.perf_counter() - started
    return Measured(seconds, watch.peak, watch.gpu_peak, contender.oof(grid, folder))


def run_all(commands: Commands, folder: Path, name: str) -> None:
    """Start all the commands, wait for all, and end with the output of one that fails."""
    logs = [folder / f"log{n}.txt" for n in range(len(commands))]
    running = []
    for command, log in zip(commands, logs, strict=True):
        with log.open("w") as out:
            running.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))
    for process, log in zip(running, logs, strict=True):
        if process.wait() != 0:
            for other in running:
                other.kill()
                other.wait()
            raise SystemExit(f"{name} failed:\n{log.read_text()[-2000:]}")


class _Memory:
    """Looks at the memory of this process's children and of the GPUs, a few times a second."""

    def __init__(self) -> None:
        self.peak = self.gpu_peak = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.3):
            children = psutil.Process().children(recursive=True)
            self.peak = max(self.peak, sum(map(_resident, children)))
            self.gpu_peak = max(self.gpu_peak, _on_gpus())


def _resident(process: psutil.Process) -> float:
    """Bytes in memory; pages that processes share count once in all (PSS), where Linux says it."""
    try:
        return process.memory_full_info().pss
    except AttributeError:
        return process.memory_info().rss
    except psutil.Error:  # it has ended
        return 0.0


def _on_gpus() -> float:
    try:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        shown = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0.0
    return sum(float(line) * 2**20 for line in shown.split())
