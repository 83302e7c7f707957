"""Deal whole groups of rows out to folds that are alike in size and in shares of labels.

Legend: N rows, G groups, T traits to balance, n folds.
"""

from __future__ import annotations

import numpy as np


def deal_groups(group_N: np.ndarray, trait_NT: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The fold (N,) of each row, one for all rows of a group, so that folds are alike in traits.

    A trait is what a row adds to its fold, 0 or more; that it is a row is one of them. Groups are
    dealt one by one, those first that hold much of any trait, each to the fold whose sums it makes
    least uneven: the sum over folds and traits of squared shares grows least. `seed` decides
    between equals. No fold stays empty where groups are enough.
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
