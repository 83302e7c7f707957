"""Groups of rows, such as one prompt's: each group is assigned to one fold as a whole.

Shapes: G groups, T traits to balance, n folds.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)


def assign_groups(group_N: np.ndarray, trait_NT: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The fold (N,) of each row, the same for all rows of a group, with traits spread evenly.

    A trait is a number of 0 or more, such as 1 for rows of a class. The number of rows is added as
    a trait. Groups are assigned one by one, those with large shares of any trait first. Each goes
    to the fold where the sum over folds and traits of squared shares grows least; `seed` breaks
    ties. With at least n groups, no fold is empty.
    """
    rng = np.random.default_rng(seed)
    _, group_N = np.unique(group_N, return_inverse=True)
    n_groups = int(group_N.max()) + 1
    trait_NT = np.column_stack([np.ones(len(group_N)), trait_NT])
    sum_GT = np.stack([np.bincount(group_N, trait, n_groups) for trait in trait_NT.T], axis=1)
    share_GT = sum_GT / np.maximum(sum_GT.sum(axis=0), np.finfo(float).tiny)

    shuffled = rng.permutation(n_groups)
    largest_first = np.argsort(-np.square(share_GT[shuffled]).sum(axis=1), kind="stable")
    fold_G = np.zeros(n_groups, dtype=np.int64)
    share_nT = np.zeros((n, share_GT.shape[1]))
    for group in shuffled[largest_first]:
        # A sum s that grows by g adds 2sg + g² to the squares; g² is the same in all folds.
        growth_n = share_nT @ share_GT[group]
        ties_n = rng.permutation(n)
        fold_G[group] = ties_n[growth_n[ties_n].argmin()]
        share_nT[fold_G[group]] += share_GT[group]
    return fold_G[group_N]


def merge_groups(group_N: np.ndarray, set_N: np.ndarray, n: int) -> np.ndarray:
    """The group (N,) of each row, numbered from 0, after groups that share a set are merged.

    Raises UserError for fewer groups than the `n` folds.
    """
    _, group_N = np.unique(group_N, return_inverse=True)
    found = int(group_N.max()) + 1
    if found < 2:
        raise UserError(
            "folds.groups: the column holds one value in all rows, expected a group for each "
            "prompt, author or the like; name another column, or leave it out"
        )
    size = found + int(set_N.max()) + 1
    links = coo_matrix((np.ones(len(set_N)), (group_N, found + set_N)), shape=(size, size))
    component_N = connected_components(links, directed=False)[1][group_N]
    merged_N = np.unique(component_N, return_inverse=True)[1]
    left = int(merged_N.max()) + 1
    joined = f", merged by equal texts to {left} (folds.keep_together)" if left < found else ""
    if left < n:
        raise UserError(
            f"folds.groups: the column holds {found} groups{joined}, fewer than the {n} folds; use "
            "fewer folds, or another column"
        )
    if joined:
        log.info("folds keep %d groups whole%s", found, joined)
    return merged_N


def check_groups(fold_N: np.ndarray, groups: pd.Series) -> None:
    """Raise UserError where rows of one group, such as a prompt's, are in several folds."""
    folds = pd.Series(fold_N).groupby(groups.to_numpy()).nunique()
    split = folds.index[folds > 1]
    if len(split):
        held = sorted(set(fold_N[(groups == split[0]).to_numpy()].tolist()))
        raise UserError(
            f"group {quoted(split[0])} of column '{groups.name}' (folds.groups) is in folds "
            f"{', '.join(map(str, held))} ({len(split)} such groups), expected each in one"
        )
