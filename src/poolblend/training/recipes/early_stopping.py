"""Early stopping: the best epoch on the fold's own rows is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from poolblend.modeling.model import TextModel

MERITS, PREDICTIONS, WEIGHTS = "merits", "predictions.", "weights."


@register("early_stopping")
class EarlyStopping(Recipe):
    """Keep the best epoch, and stop after N epochs without improvement."""

    early_stopping: int | None = Field(None, ge=1, examples=[1])
    _merits: list[float] = PrivateAttr(default_factory=list)  # of each epoch; the larger the better
    _predictions: list[Any] = PrivateAttr(default_factory=list)  # after each epoch, (N, K)
    _weights: dict[str, Any] = PrivateAttr(default_factory=dict)  # of the best epoch

    def check_options(self, train: Any, head: Any, task: str) -> None:
        if self.active and train.epochs == 1:
            raise ValueError(
                "train.early_stopping chooses among epochs, of which there is one; raise "
                "train.epochs"
            )
        if self.active and train.swa_epochs:
            raise ValueError(
                "train.early_stopping and swa_epochs exclude each other; leave one out"
            )

    def after_epoch(
        self, merit: float | None, pred_NK: np.ndarray, snapshot: Callable[[], dict[str, Tensor]]
    ) -> bool:
        assert self.early_stopping is not None
        self._merits.append(float("-inf") if merit is None else merit)
        self._predictions.append(pred_NK)
        if self._best == len(self._merits) - 1:
            self._weights = snapshot()
        return len(self._merits) - 1 - self._best >= self.early_stopping

    @property
    def _best(self) -> int:
        """The first of the best epochs; the last epoch while no score is defined."""
        best = max(self._merits)
        return len(self._merits) - 1 if best == float("-inf") else self._merits.index(best)

    def kept_epoch(self) -> tuple[int, list[np.ndarray]] | None:
        return self._best + 1, self._predictions

    def finish(self, model: TextModel) -> None:
        if self._weights:
            model.load_state_dict(self._weights, strict=False)  # without frozen ones

    def state(self) -> dict[str, Tensor]:
        import torch

        predictions = {f"{PREDICTIONS}{n}": each for n, each in enumerate(self._predictions)}
        return {
            MERITS: torch.tensor(self._merits, dtype=torch.float64),
            **{name: torch.from_numpy(pred_NK) for name, pred_NK in predictions.items()},
            **{f"{WEIGHTS}{name}": tensor for name, tensor in self._weights.items()},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._merits = state[MERITS].tolist()
        self._predictions = [state[f"{PREDICTIONS}{n}"].numpy() for n in range(len(self._merits))]
        self._weights = {
            name.removeprefix(WEIGHTS): tensor
            for name, tensor in state.items()
            if name.startswith(WEIGHTS)
        }
