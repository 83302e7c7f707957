"""`poolblend bundle`: a run's fold models, blend and code in one folder, for a machine offline.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poolblend.cards.blend import BlendCard, MemberOrigin
from poolblend.cards.bundle import Agreement, BundleCard
from poolblend.cards.provenance import Provenance
from poolblend.config import SHIPPED, Config, Workers
from poolblend.config.presets import PRESETS
from poolblend.ensembling.mixture import Mixture
from poolblend.errors import UserError, quoted
from poolblend.jobs.blend_plan import check_unchanged, read_blend
from poolblend.jobs.predict_job import plan_predictions
from poolblend.jobs.predictions import train_rows
from poolblend.jobs.runners import PredictWork, predict_all
from poolblend.loading.competition import load_competition, open_store, table_hashes
from poolblend.store import Store
from poolblend.store.bundle import NOTEBOOK, WHEELS, Bundle, finish, write_dataset
from poolblend.store.predictions import from_table
from poolblend.store.read_only import only_read
from poolblend.store.wheel import write_wheel

log = logging.getLogger(__name__)

TEMPLATE = SHIPPED / "notebooks" / "kaggle.ipynb"
# What poolblend imports and Kaggle's notebooks do not have; both run on any Python.
LACKING = ("iterative-stratification", "cmaes")
# Nothing else of a config has a meaning elsewhere: places of files, and labels kept aside.
HERE = ("dir", "demo", "test_labels")
OWNER = "INSERT_OWNER_HERE"


def bundle(
    config: Config,
    to: str | Path,
    *,
    owner: str | None = None,
    competition: str | None = None,
    half: bool = False,
    refit: bool = False,
    wheels: str | Path | None = None,
    workers: Workers = 1,
) -> Path:
    """Write the bundle of the run's blend into the folder `to`; its path.

    `wheels` is a folder with the wheels of `LACKING`, which are downloaded without it. With `half`,
    weights are in half precision, and predictions of the out-of-fold rows are compared with those
    of full precision, which needs the train table. With `refit`, members' models of all rows are
    taken instead of those of the folds, as `with_refits` says. Raises UserError for members from
    elsewhere, for models that are damaged or were trained after the blend, and for more than Kaggle
    takes.
    """
    store, target = open_store(config), Bundle(Path(to).expanduser())
    if half and refit:
        raise UserError(
            "--fp16 compares predictions of out-of-fold rows, which models of all rows do not "
            "have; leave out --fp16 or --refit"
        )
    blend, mixture = read_blend(store, refit=refit)
    _check_members(store, blend)
    check_names(owner, competition)
    with tempfile.TemporaryDirectory(prefix="poolblend-") as scratch:
        own = write_wheel(Path(scratch), {"configs/presets": PRESETS})
        found = [own, *_lacking_wheels(Path(scratch), wheels)]
        with target.replaced(TEMPLATE) as new:
            there = write_dataset(
                new,
                store,
                blend,
                config=config_there(config),
                half=half,
                wheels=found,
                tables=[config.data_dir / join.table("test") for join in config.data.joins],
            )
            agreement = _agreement(config, store, there, mixture, workers) if half else None
            card = finish(
                new,
                lambda files: BundleCard(
                    run=config.run,
                    tables=_tables(config),
                    weights=BundleCard.weights_of(blend.used_members),
                    agreement=agreement,
                    files=files,
                    provenance=Provenance.here(),
                ),
            )
    target.write_metadata(*metadata(config.run, owner, competition))
    size = sum(file.bytes for file in card.files.values())
    print(f"blend: {blend.describe()}")
    if agreement is not None:
        print(agreement.describe())
    print(f"\nbundle: {target.folder} ({len(card.files)} files, {size / 1e9:.2f} GB)")
    missing = {"--owner": owner, "--competition": competition}
    if flags := [flag for flag, given in missing.items() if not given]:
        print(f"still to be given, here or to poolblend submit: {', '.join(flags)}")
    return target.folder


def _check_members(store: Store, blend: BlendCard) -> None:
    for name, member in blend.used_members.items():
        if member.origin.oof_file:
            raise UserError(
                f"member {name} is from elsewhere and has no model here, so it cannot predict a "
                "hidden test table; blend without it (blend.py --members a,b)"
            )
        check_unchanged(store, name, member.origin)


def check_names(owner: str | None, competition: str | None) -> None:
    """Raise UserError for what cannot be a part of Kaggle's addresses."""
    for flag, name in (("owner", owner), ("competition", competition)):
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name, re.ASCII):
            raise UserError(
                f"--{flag} {quoted(name)}: expected the name in Kaggle's addresses, of letters, "
                "digits and hyphens"
            )


def _tables(config: Config) -> tuple[str, ...]:
    """The files of the competition that inference reads, in its folder."""
    return (config.data.test, config.data.sample_submission)


def config_there(config: Config) -> str:
    """The config for the other machine, as JSON, which YAML contains."""
    given = config.model_dump(mode="json", exclude_unset=True, exclude={"store", "output"})
    data = {key: value for key, value in given.get("data", {}).items() if key not in HERE}
    return json.dumps({**given, "data": data}, indent=2, ensure_ascii=False) + "\n"


def _lacking_wheels(scratch: Path, given: str | Path | None) -> list[Path]:
    """The wheels of `LACKING`: of the folder `given`, or downloaded into `scratch`."""
    folder = scratch / WHEELS if given is None else Path(given).expanduser()
    if given is None:
        _download(folder)
    found = []
    for name in LACKING:
        pattern = f"{name.replace('-', '_')}-*-none-any.whl"
        wheels = sorted(folder.glob(pattern))
        if not wheels:
            raise UserError(
                f"{folder} has no wheel of {name} for any Python ({pattern}); put it there "
                f"(pip download --no-deps -d {folder} {name})"
            )
        found.append(wheels[-1])
    return found


def _download(folder: Path) -> None:
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in LACKING]
    how = ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=15", f"--dest={folder}"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    done = subprocess.run([*pip, *how, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UserError(
            f"{' and '.join(wanted)} could not be downloaded ({last[:200]}); name a folder that "
            "has their wheels with --wheels FOLDER"
        )


# --- what Kaggle's tool reads -----------------------------------------------------------------


def slug(run: str, kind: str = "") -> str:
    """The run's name in Kaggle's addresses, of 6 to 50 characters."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{run[:30]} {kind}".lower(), flags=re.ASCII)
    return f"poolblend-{words.strip('-')}".strip("-")[:50]


def metadata(
    run: str, owner: str | None, competition: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata of the dataset and the notebook. Titles are such that slugs follow from them."""
    models, notebook, owner = slug(run, "models"), slug(run), owner or OWNER
    dataset = {
        "title": models.replace("-", " "),
        "id": f"{owner}/{models}",
        "licenses": [{"name": "other"}],  # that of the backbone and of the competition's data
    }
    kernel = {
        "id": f"{owner}/{notebook}",
        "title": notebook.replace("-", " "),
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,  # the tool's own default is true
        "machine_shape": "NvidiaTeslaT4",  # the pair of them
        "dataset_sources": [f"{owner}/{models}"],
        "competition_sources": [competition] if competition else [],
        "kernel_sources": [],
        "model_sources": [],
    }
    return dataset, kernel


# --- half precision ---------------------------------------------------------------------------


def _agreement(
    config: Config, store: Store, there: Store, mixture: Mixture, workers: Workers
) -> Agreement:
    """Predict the out-of-fold rows with the bundle's models, and compare with the stored ones."""
    blend = there.read_blend()
    competition = load_competition(config, store)
    task, rows = competition.task, train_rows(config, competition)
    names = list(blend.used_members)
    origins: Mapping[str, MemberOrigin] = {n: m.origin for n, m in blend.used_members.items()}
    hashes = table_hashes(config, "train") | {"folds_sha256": competition.data["folds_sha256"]}
    jobs = plan_predictions(config, origins, "train", "predictions", hashes)
    full_MNK = np.full((len(names), len(rows.ids_N), len(task.outputs)), np.nan)
    half_MNK = full_MNK.copy()
    with only_read(there) as reading:
        work = PredictWork(reading, {"train": rows}, task.outputs, config.cluster)
        for job, pred_NK, _ in predict_all(jobs, work, workers):
            positions, m = rows.positions(job), names.index(job.origin.member)
            oof = store.fold(*job.origin.place).oof()
            stored_NK = from_table(oof, rows.ids_N[positions], task.outputs)
            for made_MNK, made_NK in ((half_MNK, pred_NK), (full_MNK, stored_NK)):
                made_MNK[m, positions] = competition.only_possible(positions, made_NK)
    difference_MNK = np.abs(half_MNK - full_MNK)
    scorer, cuts = competition.scorer, mixture.cuts
    full, half = (
        scorer.score_inputs(
            competition.scored,
            scorer.metric_inputs(mixture.apply(pred_MNK), cuts),
            competition.fold_N,
        )
        for pred_MNK in (full_MNK, half_MNK)
    )
    return Agreement(
        rows=len(rows.ids_N),
        largest=float(difference_MNK.max()),
        mean=float(difference_MNK.mean()),
        metric=scorer.name,
        score=full,
        half_score=half,
    )
