"""A blend problem on which a search has something to gain."""

from dataclasses import replace

import numpy as np
import pytest

from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.problem import BlendProblem
from poolblend.ensembling.spaces import Space


def make_searchable(metric="f1", n_members=4, **keys):
    """Members that see one signal through noise of their own, each with more of it.

    The simpler blenders are fitted already, so that the search scores nothing but its own.
    """
    rng = np.random.default_rng(0)
    signal_N1 = rng.normal(size=(200, 1))
    scale_M11 = np.linspace(0.5, 1.5, n_members)[:, None, None]
    seen_MN1 = signal_N1 + scale_M11 * rng.normal(size=(n_members, 200, 1))
    y = (signal_N1[:, 0] + rng.logistic(size=200) > 0).astype(np.int64)
    keys = {"members": tuple(f"ü member-{m}" for m in range(n_members)), "trials": 60, **keys}
    problem = BlendProblem(
        z_MNK=1 / (1 + np.exp(-seen_MN1)),
        y=y,
        fold_N=np.arange(200) % 4,
        scorer=make_scorer(metric, Task("binary", ("t",), (0, 1))),
        space=Space("plain", "binary"),
        **keys,
    )
    simpler = by_simplicity()[: by_simplicity().index("stack")]
    fits = {name: BLENDERS[name](problem) for name in simpler if name not in problem.starts}
    return replace(problem, starts={**fits, **problem.starts})


@pytest.fixture(scope="session")
def searchable():
    """Function of a metric, a number of members and fields of the problem."""
    return make_searchable
