"""A unit of inference can be written down, and knows whether its result is in the store."""

import numpy as np
import pytest

from poolblend.cards.predictions import Origin
from poolblend.jobs.predict_job import PredictJob, Rows
from poolblend.jobs.runners import PredictWork, inline, predict_all
from poolblend.store import Store
from poolblend.store.predictions import to_table

HASHES = {"test_sha256": "1", "weights_sha256": "2"}


def job(what="predictions", table="test", batch_tokens=100, **hashes):
    origin = Origin(member="m", fold=0, table=table, what=what, hashes=HASHES | hashes)
    return PredictJob(run="toy", origin=origin, batch_tokens=batch_tokens)


@pytest.mark.parametrize("what", ["predictions", "vectors"])
def test_a_job_is_read_back_from_its_json(what):
    assert PredictJob.model_validate_json(job(what).model_dump_json()) == job(what)


def test_jobs_of_one_result_have_one_fingerprint():
    assert job(batch_tokens=7).fingerprint() == job().fingerprint()
    others = [job("vectors"), job(table="train"), job(weights_sha256="3")]
    assert len({each.fingerprint() for each in (job(), *others)}) == 4


def test_a_result_is_that_of_just_this_job(tmp_path):
    store = Store(tmp_path, "toy")
    assert job().kept(store) is None
    job().file(store).keep(to_table(["a"], np.array([[0.5]]), ["target"]), HASHES)
    assert job().kept(store)["id"].tolist() == ["a"]
    assert job(test_sha256="3").kept(store) is None
    assert job(table="train").file(store) is None


def test_a_result_that_another_process_makes_is_waited_for(tmp_path, monkeypatch):
    store, theirs = Store(tmp_path, "toy"), job().file(Store(tmp_path, "toy"))
    work = PredictWork(store, {"test": Rows(None, np.array(["a"], dtype=object))}, ["target"])
    lock = theirs.lock
    assert lock.acquire(wait=False)

    def they_finish(_):
        theirs.keep(to_table(["a"], np.array([[0.5]]), ["target"]), HASHES)
        lock.release()

    monkeypatch.setattr(inline.time, "sleep", they_finish)
    assert work(job()).state == "elsewhere"
    (result,) = predict_all([job()], work)
    assert result.values.tolist() == [[0.5]]
