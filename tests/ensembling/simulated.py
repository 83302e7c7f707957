"""Simulated members for every kind of task."""

import numpy as np

from poolblend.competition.tasks import Task

TASKS = {
    "binary": Task("binary", ("t",), (0, 1)),
    "multiclass": Task("multiclass", ("t",), ("x", "y", "z")),
    "multilabel": Task("multilabel", ("p", "q")),
    "regression": Task("regression", ("p", "q")),
    "ordinal": Task("ordinal", ("t",), (1, 2, 4)),
}


def drawn(
    kind: str, seed: int, n_members: int = 5, n_rows: int = 120, most_noise: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Encoded labels, and members that see one signal through noise of their own, ever more."""
    rng = np.random.default_rng(seed)
    K = len(TASKS[kind].outputs)
    signal_NK = rng.normal(size=(n_rows, K))
    noise = np.linspace(0.5, most_noise, n_members)[:, None, None]
    seen_MNK = signal_NK + noise * rng.normal(size=(n_members, n_rows, K))
    if kind == "regression":
        return signal_NK + rng.normal(size=(n_rows, K)), seen_MNK
    if kind == "ordinal":
        return np.digitize(signal_NK[:, 0], [-0.5, 0.8]), 2 + seen_MNK
    if kind == "multiclass":
        powers_MNK = np.exp(seen_MNK)
        y = (signal_NK + rng.gumbel(size=(n_rows, K))).argmax(axis=1)
        return y, powers_MNK / powers_MNK.sum(axis=2, keepdims=True)
    y_NK = (signal_NK + rng.logistic(size=(n_rows, K)) > 0).astype(np.int64)
    return (y_NK[:, 0] if kind == "binary" else y_NK), 1 / (1 + np.exp(-seen_MNK))
