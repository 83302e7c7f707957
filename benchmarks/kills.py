"""Kill runs and let the same command go on: is anything lost, corrupt, different or left over?

  python benchmarks/kills.py --random 200 --seed 1    SIGKILL at random moments of whole runs
  python benchmarks/kills.py --every                  at every operation on the store's files

Tiny models in a temporary folder: train.py's work, blend.py's, infer.py's, in processes that are
killed and started again until they come to their end, each compared with a run never interrupted.
Ends with exit status 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from rig import runs
from rig.children import answer
from rig.kills import Scene, Tally, kills_at_every, random_kills


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", type=int, metavar="KILLS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", action="store_true")
    args = parser.parse_args()
    clean = True
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path = Path(answer(runs.write_toy, folder, log=place / "log.txt"))
        if args.random:
            scene = Scene("whole", runs.whole, path, place / "random")
            started = time.perf_counter()
            tally = random_kills(scene, args.random, args.seed, _progress)
            clean &= _report(f"at random moments, seed {args.seed}", tally, started)
        for scene in scenes(path, place) if args.every else ():
            started = time.perf_counter()
            tally = kills_at_every(scene, _one_search, _progress)
            clean &= _report(f"at every operation of {scene.name}", tally, started)
    sys.exit(0 if clean else 1)


def scenes(path: Path, place: Path) -> Iterator[Scene]:
    """Each kind of work from where it begins; together they are a whole run and its repetitions."""
    few = ("blend.trials=2", "train.epochs=1")
    fold = {"poolers": "max", "folds": "0"}
    demo = place / "demo" / "store" / "data"
    yield Scene(
        "the demo and its folds",
        runs.make_folds,
        path,
        place / "demo",
        sets=runs.of_the_demo(demo),
        before=runs.small_demo,
    )
    yield Scene("the first fold", runs.train, path, place / "fold", chosen=fold, sets=few)
    other = Scene("", runs.train, path, place / "other", chosen=fold, sets=(*few, "train.lr=0.01"))
    other.finish()
    again = {**fold, "overwrite": True}
    yield Scene("a fold trained again", runs.train, path, place / "again", other.store, few, again)
    trained = Scene("", runs.train, path, place / "trained", sets=few)
    trained.finish()
    yield Scene("a blend", runs.blend, path, place / "blend", trained.store, few)
    blended = Scene("", runs.blend, path, place / "blended", trained.store, few)
    blended.finish()
    yield Scene("an inference", runs.infer, path, place / "infer", blended.store, few)
    inferred = Scene("", runs.infer, path, place / "inferred", blended.store, few)
    inferred.finish()
    yield Scene("another inference", runs.infer, path, place / "infer again", inferred.store, few)


def _one_search(operation: tuple[str, str, str]) -> bool:
    """Of a blend's searches, one per fold and one over all rows, those of one are enough."""
    return "without-fold" not in operation[1]


def _progress(tally: Tally) -> None:
    wrong = sum(map(len, tally.wrong.values()))
    print(f"\r{tally.runs} runs, {tally.kills.total()} kills, {wrong} wrong", end="", flush=True)


def _report(title: str, tally: Tally, started: float) -> bool:
    print(f"\n\nSIGKILL {title} ({time.perf_counter() - started:.0f} s)\n{tally}\n")
    for kind, what in tally.wrong.items():
        for each in what[:20]:
            print(f"{kind}: {each}")
    sys.stdout.flush()
    return tally.clean


if __name__ == "__main__":
    main()
