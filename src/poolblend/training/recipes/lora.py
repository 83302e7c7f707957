"""Low-rank adapters beside the encoder's linear layers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from poolblend.options import Section
from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    from poolblend.modeling.model import TextModel


class Lora(Section):
    """The adapters' options; a rank alone, such as `lora: 8`, is short for `r`."""

    r: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    # Names of linear layers; default: all within the encoder's layers.
    modules: list[str] | None = Field(None, min_length=1)

    @property
    def scale(self) -> float:
        """The factor of what an adapter adds."""
        return self.alpha / self.r

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_a_rank(cls, value: Any) -> Any:
        return {"r": value} if isinstance(value, int) and not isinstance(value, bool) else value


@register("lora")
class LoraAdapters(Recipe):
    """Train low-rank adapters (r, alpha, dropout, modules) instead of the encoder's weights.

    A fold model holds the adapters beside the run's one copy of the encoder.
    Source: Hu et al. 2021, arXiv:2106.09685.
    """

    lora: Lora | None = Field(None, examples=[{"r": 2, "alpha": 64.0}])

    def check_options(self, train: Any, head: Any, task: str) -> None:
        for other in ("freeze_layers", "reinit_layers", "fgm"):
            if self.active and getattr(train, other) not in (None, 0):
                raise ValueError(f"train.{other} needs weights that learn, which lora freezes")

    def check(self, encoder: Any, train: Any, task: str) -> None:
        from poolblend.modeling.adapters import check_lora

        assert self.lora is not None
        check_lora(encoder, self.lora.modules)

    def prepare_model(self, model: TextModel) -> None:
        from poolblend.modeling.adapters import add_lora

        assert self.lora is not None
        add_lora(model.encoder, **self.lora.model_dump())

    def evaluating(self, model: TextModel) -> AbstractContextManager[object]:
        from poolblend.modeling.adapters import merged

        return merged(model.encoder)

    def finish(self, model: TextModel) -> None:
        from poolblend.modeling.adapters import add_factors, take_factors

        assert self.lora is not None
        factors = take_factors(model.encoder)
        add_factors(model.encoder, factors, self.lora.scale)
        model.factors = {f"encoder.{name}": tensor for name, tensor in factors.items()}
