"""Averages of a model's weights over training, which may predict better than the last weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim.swa_utils import AveragedModel

    from poolblend.modeling.model import TextModel


class _Average(Recipe):
    _average: Any = PrivateAttr(None)  # an AveragedModel, empty at first

    def kept(self) -> TextModel | None:
        average = self._average
        return None if average is None or average.n_averaged == 0 else average.module

    def state(self) -> dict[str, Tensor]:
        from poolblend.training.state import frozen_weights

        frozen = frozen_weights(self._average)
        return {k: v for k, v in self._average.state_dict().items() if k not in frozen}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._average.load_state_dict(state, strict=False)


@register("ema")
class Ema(_Average):
    """Keep an exponential moving average of the weights, with this decay (EMA)."""

    ema: float | None = Field(None, gt=0, lt=1, examples=[0.9])

    def check_options(self, train: Any, head: Any, task: str) -> None:
        if self.active and train.swa_epochs:
            raise ValueError("train.ema and swa_epochs exclude each other; leave one out")

    def begin(self, model: TextModel, train: Any) -> None:
        from torch.optim.swa_utils import AveragedModel

        self._average = AveragedModel(model, use_buffers=True)

    def after_step(self, model: TextModel, epoch: int, *, ends_epoch: bool) -> None:
        assert self.ema is not None
        move_average(self._average, model, self.ema)


def move_average(average: AveragedModel, model: nn.Module, decay: float) -> None:
    """One step of an exponential moving average of the model's weights and buffers.

    The decay rises to `decay` as (1 + n) / (10 + n) over the first steps, n being those seen:
    otherwise a short training would keep much of the initial weights. torch's own
    `update_parameters` reads from the device in each step.
    """
    import torch

    seen = int(average.n_averaged)  # always on the CPU
    share = 1 - min(decay, (1 + seen) / (10 + seen))
    means = [*average.module.parameters(), *average.module.buffers()]
    values = [*model.parameters(), *model.buffers()]
    pairs = list(zip(means, values, strict=True))
    learned = [pair for pair in pairs if seen and pair[0].is_floating_point()]
    with torch.no_grad():
        for mean, value in pairs:
            if not seen or not mean.is_floating_point():
                mean.copy_(value)
        if learned:
            torch._foreach_lerp_([mean for mean, _ in learned], [v for _, v in learned], share)
    average.n_averaged += 1


@register("swa_epochs")
class SwaEpochs(_Average):
    """Keep the mean of the weights at the ends of the last N epochs (SWA).

    In these epochs the learning rate is constant. Source: stochastic weight averaging, Izmailov et
    al. 2018, arXiv:1803.05407.
    """

    swa_epochs: int = Field(0, ge=0, examples=[2])
    _first_epoch: int = PrivateAttr(0)

    def check_options(self, train: Any, head: Any, task: str) -> None:
        if self.swa_epochs == 1 or self.swa_epochs > train.epochs:
            raise ValueError(
                f"train.swa_epochs is {self.swa_epochs} of {train.epochs} epochs; set it to 2 or "
                "more, up to all of them, or to 0"
            )
        if self.active and head.norm == "batch":
            raise ValueError(
                "head.norm=batch has statistics that train.swa_epochs cannot average; use layer"
            )

    def begin(self, model: TextModel, train: Any) -> None:
        from torch.optim.swa_utils import AveragedModel

        self._average = AveragedModel(model, use_buffers=True)
        self._first_epoch = train.epochs - self.swa_epochs

    def constant_rate_from(self, steps_of_epochs: Sequence[int]) -> int | None:
        return sum(steps_of_epochs[: -self.swa_epochs])

    def after_step(self, model: TextModel, epoch: int, *, ends_epoch: bool) -> None:
        if ends_epoch and epoch >= self._first_epoch:
            self._average.update_parameters(model)
