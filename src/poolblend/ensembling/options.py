"""The options of `blend:` in a config."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from poolblend.options import Section, checked


class Blend(Section):
    """Which blenders are compared and which is used, and how their weights are fitted."""

    fitter: str = "auto"  # auto: the simplest within one standard error of the best honest score
    fitters: list[str] = Field([])  # the blenders compared, beside equal and best; empty: all
    space: Literal["auto", "plain", "logit", "rank"] = "auto"  # where members are averaged
    weights: Literal["shared", "per_output"] = "shared"  # per_output: separate weights for each
    # Decision thresholds and ordinal cut points; auto: fitted where cross-fitting says they help.
    thresholds: Literal["auto", "fitted", "default"] = "auto"
    trials: int = Field(200, ge=1, le=1_000_000)  # of Optuna's search, all outputs together
    study: bool = False  # keep the search as oof/<run>/study.log, which optuna-dashboard reads
    resamples: int = Field(400, ge=50, le=100_000)  # of rows or groups, for the intervals
    # The train column whose values, not rows, intervals draw; auto: folds.groups; null: none.
    groups: str | None = "auto"
    # How long infer.py may compute, such as 30m: members are then chosen by score and seconds.
    budget: str | None = None
    budget_rows: int | None = Field(None, ge=1)  # of the hidden test table; null: the test table's
    slices: list[str] = Field([])  # train columns to score by, beside the texts' length

    @field_validator("slices", mode="before")
    @classmethod
    def _one_column_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("budget", mode="before")
    @classmethod
    def _a_number_lacks_its_unit(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value

    @field_validator("fitter")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("blender", value, ("auto",))

    @field_validator("fitters")
    @classmethod
    def _all_known(cls, value: list[str]) -> list[str]:
        return [checked("blender", name) for name in value]
