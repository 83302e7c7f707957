"""Prove that a refactoring changes no result: the same tiny runs, the same bytes.

  python benchmarks/golden.py --against main         the working tree against a commit
  python benchmarks/golden.py --record FILE          write the working tree's hashes as JSON
  python benchmarks/golden.py --compare FILE         compare the working tree with such a record
  python benchmarks/golden.py --against main --only binary,windows --jobs 2

Each case (golden_cases.py) is a small competition that runs through train.py, blend.py and infer.py
in a temporary folder, with fixed seeds, on the CPU, in one thread. Compared are the sha256 of every
table of predictions, of every model's weights, of the folds, of the blends' weights and scores, and
of the submission. The exit status is 1 where anything differs or fails. A record holds for the
machine and the library versions that it was made with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from golden_cases import CASES, write_case
from golden_data import write_encoder

ROOT = Path(__file__).resolve().parents[1]
# Every case leaves files of each of these names.
HASHED = ("*.parquet", "model.safetensors", "folds.csv", "blend.json", "submission.csv")
OF_A_BLENDER = ("in_sample", "honest", "space", "weights", "fold_weights")
ENVIRONMENT = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")},
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
}
Hashes = dict[str, str]  # of a case's files, by their path in the store


class FailedError(Exception):
    """A command of a case failed, or a case left nothing to compare."""


def main() -> None:
    args = arguments()
    names = list(CASES) if args.only is None else args.only.split(",")
    for name in names:
        if name not in CASES:
            sys.exit(f"unknown case '{name}'; known: {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        encoder = place / "encoder"
        write_encoder(encoder)

        def here(name: str) -> Hashes:
            return run_case(ROOT, name, place / "here", encoder)

        if args.record:
            sys.exit(record(names, here, args.record, args.jobs))
        if args.compare:
            recorded = json.loads(args.compare.read_text(encoding="utf-8"))
            sys.exit(compare(names, here, lambda name: recorded.get(name, {}), args.jobs))
        with checked_out(args.against, place / "tree") as tree:

            def there(name: str) -> Hashes:
                return run_case(tree, name, place / "there", encoder)

            sys.exit(compare(names, here, there, args.jobs))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--against", metavar="REV", help="a commit, branch or tag")
    what.add_argument("--record", metavar="FILE", type=Path)
    what.add_argument("--compare", metavar="FILE", type=Path)
    parser.add_argument("--only", metavar="CASES", help=f"a comma list of {', '.join(CASES)}")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time (default: 1)")
    return parser.parse_args()


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit in `folder`, removed at the end."""
    git = ["git", "-C", str(ROOT), "worktree"]
    added = subprocess.run(
        [*git, "add", "--detach", str(folder), revision],
        check=False,
        capture_output=True,
        text=True,
    )
    if added.returncode:
        sys.exit(f"cannot check out {revision}: {added.stderr.strip().splitlines()[-1]}")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def record(names: Sequence[str], run: Callable[[str], Hashes], file: Path, jobs: int) -> int:
    """Write the hashes of the cases to `file`, unless one fails; the exit status."""
    recorded = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for name, hashes in zip(names, pool.map(run, names), strict=True):
                print(f"{name}: {len(hashes)} files", flush=True)
                recorded[name] = hashes
        except FailedError as error:
            pool.shutdown(cancel_futures=True)
            print(f"FAILED: {error}")
            return 1
    file.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return 0


def compare(
    names: Sequence[str],
    now: Callable[[str], Hashes],
    before: Callable[[str], Hashes],
    jobs: int,
) -> int:
    """Print a line for each case; the exit status."""

    def verdict(name: str) -> str:
        try:
            return difference(before(name), now(name))
        except FailedError as error:
            return f"FAILED: {error}"

    same = True
    with ThreadPoolExecutor(jobs) as pool:
        for name, line in zip(names, pool.map(verdict, names), strict=True):
            print(f"{name}: {line}", flush=True)
            same = same and line.startswith("equal")
    return 0 if same else 1


def difference(before: Hashes, now: Hashes) -> str:
    """`equal` with the number of files, or `DIFFERENT` with the names of those that differ."""
    files = sorted(before.keys() | now.keys())
    told = []
    for file in files:
        if file not in now:
            told.append(f"{file} (is gone)")
        elif file not in before:
            told.append(f"{file} (is new)")
        elif before[file] != now[file]:
            told.append(file)
    if told:
        return f"DIFFERENT ({len(told)} of {len(files)} files): {', '.join(told)}"
    return f"equal ({len(files)} files)"


def run_case(tree: Path, name: str, place: Path, encoder: Path) -> Hashes:
    """Run the commands of a case with the scripts of `tree`; the hashes of what they wrote.

    Raises FailedError where a command fails, or where a kind of file was not written.
    """
    folder = place / name
    config = write_case(name, folder, encoder)
    for command in CASES[name].commands:
        script, *options = command
        done = subprocess.run(
            [sys.executable, str(tree / f"{script}.py"), "--config", str(config), *options],
            check=False,
            cwd=folder,  # where relative paths in commands lie
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise FailedError(
                f"{' '.join(command)} in {tree}: {said[-1] if said else done.returncode}"
            )
    return hashes_of(folder / "store")


def hashes_of(store: Path) -> Hashes:
    hashes: Hashes = {}
    for pattern in HASHED:
        files = sorted(store.rglob(pattern))
        if not files:
            raise FailedError(f"no {pattern} was written")
        for file in files:
            content = file.read_bytes()
            if file.name == "blend.json":
                content = weights_of_a_blend(json.loads(content))
            hashes[str(file.relative_to(store))] = hashlib.sha256(content).hexdigest()
    return hashes


def weights_of_a_blend(card: dict) -> bytes:
    """What a blend card says of weights and scores, as canonical JSON."""
    blenders = {
        name: {key: blender[key] for key in OF_A_BLENDER}
        for name, blender in card["blenders"].items()
    }
    told = {
        "members": list(card["members"]),
        "blender": card["blender"],
        "mixture": card["mixture"],
        "blenders": blenders,
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    main()
