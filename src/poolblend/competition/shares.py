"""Rows whose numbers are shares of one whole: probabilities of classes of which one is true.

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poolblend.errors import UserError, quoted

ROUNDING = 0.005  # of each share: files may hold two digits
TOLERANCE = 1e-3  # of a row's sum, beside that


def whole_shares(
    share_NK: np.ndarray, rows: Sequence[object], place: str, remedy: str = "mend the row"
) -> np.ndarray:
    """The shares (N, K), each row divided by its sum, which is 1 but for rounding.

    Raises UserError for a row with another sum, by its name in `rows`; it begins with `place` and
    ends with `remedy`.
    """
    sum_N = share_NK.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(sum_N - 1) <= ROUNDING * share_NK.shape[1] + TOLERANCE))
    if len(bad):
        raise UserError(
            f"{place} {quoted(rows[bad[0]])} sums to {sum_N[bad[0]]:.4g} ({len(bad)} such rows), "
            f"expected 1; {remedy}"
        )
    return share_NK / sum_N[:, None]
