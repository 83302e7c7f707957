"""A job is a value: written as JSON and read again, it is the same job and does the same work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolblend import config
from poolblend.jobs.job import read_job
from poolblend.jobs.run import run
from poolblend.loading.competition import open_store
from rig.children import SURROUNDINGS
from rig.masked import write_masked_encoder
from rig.planned import planned

SETS = [
    "folds.n=2",
    "train.epochs=1",
    "members=[mean, {pooler: max, head: logistic}]",
    "backbone.mlm={epochs: 1, batch_size: 8, max_length: 16}",
]

WORKER = """
import sys
from poolblend.jobs.context import Context
from poolblend.jobs.job import read_job
from poolblend.jobs.run import run

job = read_job(sys.stdin.read())
run(job, Context.of(job.config))
"""
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def plans(toy, tmp_path):
    """The context and jobs of one config for two stores."""
    path = toy(n=24, n_test=8)
    source = write_masked_encoder(tmp_path / "source")
    stores = (f"store={tmp_path / name}" for name in ("first", "second"))
    return [planned(config.load(path, [*SETS, f"backbone.source={source}", s])) for s in stores]


def stored(context):
    """Bytes of all weights and predictions, by name."""
    root = open_store(context.config).root
    files = [*root.rglob("*.safetensors"), *root.rglob("fold*.parquet")]
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(files)}


def test_a_job_read_from_its_json_is_equal_and_does_the_same_work(plans):
    (first, backbones, folds), (second, _, _) = plans
    jobs = [*backbones, *folds]
    again = [read_job(job.model_dump_json()) for job in jobs]
    assert again == jobs
    assert [job.fingerprint() for job in again] == [job.fingerprint() for job in jobs]
    assert [job.name for job in again] == [job.name for job in jobs]
    for job in (jobs[0], jobs[1], jobs[-1]):  # the backbone, a fine-tuned fold, a frozen one
        run(job, first)
        run(read_job(job.model_dump_json()), second)
    assert stored(first) == stored(second)
    assert len(stored(first)) == 5


def test_a_fresh_process_needs_the_jobs_json_alone(toy, tmp_path):
    path, sets = toy(n=24, n_test=8), ["folds.n=2", "train.epochs=1", "members=[mean]"]
    stores = (f"store={tmp_path / name}" for name in ("here", "there"))
    here, there = (planned(config.load(path, [*sets, store])) for store in stores)
    run(here[2][1], here[0])
    subprocess.run(
        [sys.executable, "-c", WORKER],
        input=there[2][1].model_dump_json(),
        text=True,
        check=True,
        env={**os.environ, **SURROUNDINGS, "PYTHONPATH": str(SRC)},
    )
    assert stored(here[0]) == stored(there[0])
    assert len(stored(here[0])) == 2


def test_jobs_of_other_results_have_other_fingerprints(plans):
    (_, (backbone,), folds), (_, (same,), same_folds) = plans
    assert backbone.fingerprint() == same.fingerprint()
    assert [job.fingerprint() for job in folds] == [job.fingerprint() for job in same_folds]
    assert len({job.fingerprint() for job in (backbone, folds[0], folds[-1])}) == 3


def test_how_a_device_computes_makes_no_fold_stale(toy, tmp_path):
    path, store = toy(n=24, n_test=8), f"store={tmp_path / 'store'}"
    *_, plain = planned(config.load(path, [store, "members=[mean]"]))
    for changed in ("train.deterministic=true", "train.attention=eager"):
        *_, jobs = planned(config.load(path, [store, "members=[mean]", changed]))
        assert [job.fingerprint() for job in jobs] == [job.fingerprint() for job in plain]


def test_a_folds_job_waits_for_its_backbones(plans):
    (context, (backbone,), folds), _ = plans
    assert {name for job in folds for name in job.waits_for} == {backbone.name}
    assert backbone.waits_for == ()
    assert {job.status(context.store).state for job in (backbone, *folds)} == {"missing"}
