"""The blend card: the members of a blend, their weights, and all scores.

Legend: M members, K outputs, Q quantiles.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from poolblend.cards.card import Card, CardPart
from poolblend.cards.fold import FoldCard
from poolblend.cards.fold_names import REFIT
from poolblend.cards.provenance import Provenance
from poolblend.competition.metrics import METRICS
from poolblend.competition.positive import Positive
from poolblend.competition.tasks import KINDS, Task

STACK = "stack"  # its weights are regression coefficients, whose sum need not be 1


class OutsideFile(CardPart):
    """A file that another tool made, and its hash at the time of the blend."""

    path: str
    sha256: str


class FoldHashes(CardPart):
    """The hashes of a fold's files at the time of the blend."""

    weights_sha256: str
    oof_sha256: str

    @classmethod
    def of(cls, card: FoldCard) -> FoldHashes:
        files = card.files
        return cls(weights_sha256=files.weights.sha256, oof_sha256=files.oof.sha256)


class Interval(CardPart):
    """A gain or loss in the metric with its 95 % interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None


class LossWithout(Interval):
    """How much the blend loses without a member."""

    verdict: str


class Refitted(CardPart):
    """A member's weight on resampled rows: mean, 5th and 95th percentile, share of zeros."""

    mean: float
    low: float
    high: float
    zero: float


class MemberOrigin(CardPart):
    """The source of a member's predictions: `folds` trained here, or files of another tool.

    `optimism` estimates how much early stopping on the scored rows improves the member's score,
    None if unknown. A member of another tool may have no predictions of the test rows.
    """

    folds: tuple[FoldHashes, ...] = ()
    refit: FoldHashes | None = None  # the model of all rows, which predicts in place of the folds'
    stopped_early: bool = False
    optimism: float | None = None
    oof_file: OutsideFile | None = None
    test_file: OutsideFile | None = None

    @property
    def models(self) -> dict[int, FoldHashes]:
        """The models that predict other rows than train's, by fold, or by `REFIT`."""
        return dict(enumerate(self.folds)) if self.refit is None else {REFIT: self.refit}

    @model_validator(mode="after")
    def _is_one_of_two(self) -> MemberOrigin:
        if bool(self.folds) == bool(self.oof_file):
            raise ValueError("expected either folds or an oof_file")
        return self


class BlendMember(CardPart):
    """A member of the blend, its own score, and what it adds to the blend.

    `score` is over all out-of-fold rows, `low` and `high` its 95 % interval; None if undefined.
    `error_correlation` is the mean correlation of its errors with the other members' errors.
    """

    origin: MemberOrigin
    weight: float
    score: float | None
    low: float | None
    high: float | None
    fold_scores: tuple[float | None, ...]
    without: LossWithout
    refitted: Refitted
    error_correlation: float | None


class Form(CardPart):
    """The choices before the fit of weights: the space, and whether cuts are fitted."""

    space: str
    cuts: bool


class BlenderScores(CardPart):
    """A blender's two scores, its gains, and its weights on all rows and without each fold."""

    in_sample: float
    honest: float
    optimism: float
    over_member: Interval
    over_equal: Interval
    space: str
    weights: tuple[tuple[float, ...], ...]
    fold_weights: tuple[tuple[float, ...], ...]


class Chosen(CardPart):
    """The blender in use, and the best single member.

    `member` is the best on all rows. `member_score` is the honest score of the best member: on each
    fold, of the member that is best on the other folds.
    """

    blender: str
    automatic: bool
    metric: str
    honest: float
    member: str
    member_score: float
    n_members: int
    n_folds: int


class Weighting(CardPart):
    """All that is needed to blend predictions, as `Mixture.from_json` reads it.

    Weights are (M, K), the intercept (K), quantiles (M, K, Q) in the rank space.
    """

    space: str
    quantiles: tuple[tuple[tuple[float, ...], ...], ...] | None
    weights: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]
    cuts: tuple[float, ...] | None


class FitOptions(CardPart):
    """The options of the fit, with which weights can be fitted again without a fold."""

    space: Literal["auto", "plain", "logit", "rank"]
    weights: Literal["shared", "per_output"]
    thresholds: Literal["auto", "fitted", "default"]
    trials: int
    seed: int


class Diversity(CardPart):
    """How different the members are, on average over pairs; None if undefined.

    The mean squared errors are those of `ensembling.diversity.ambiguity`.
    """

    prediction_correlation: float | None
    error_correlation: float | None
    disagreement: float | None = None
    q_statistic: float | None = None
    member_error: float | None = None
    ambiguity: float | None = None
    ensemble_error: float | None = None
    sentence: str


class Level(CardPart):
    """The blend under a limit of seconds (None: of all members); `seconds` are of its `members`."""

    limit: float | None
    seconds: float
    in_sample: float
    honest: float
    members: tuple[str, ...]


class BudgetUse(CardPart):
    """How the blend keeps to the seconds that infer.py may compute for so many rows.

    `needed` are the seconds of the members with weight, as timed in training where `measured_on`
    says; the `free` members of other tools cost none. `levels` are of `blender`, under rising
    limits.
    """

    limit: float
    rows: int
    needed: float
    blender: str
    levels: tuple[Level, ...]
    free: tuple[str, ...]
    measured_on: tuple[str, ...]
    sentence: str


class BlendCard(Card):
    """The card of a blend. Members and rows of weights have the same order.

    `left_out` has the reason for each member that is not in the blend. `without_blender` was fitted
    without each member, `refitted_blender` on resampled rows. `slices` has a sentence for each
    column that rows were sliced by. `inputs` are the hashes of the competition's files. Blends are
    scored on all `rows`; they are fitted on `fitted_rows` and members compared on `compared_rows`
    of them (None: on all).
    """

    run: str
    task: Task
    positive: Positive | None
    metric: str
    blender: str = Field(min_length=1)
    sentence: str = Field(min_length=1)
    choice: Chosen
    form: Form
    mixture: Weighting
    members: dict[str, BlendMember] = Field(min_length=1)
    left_out: dict[str, str]
    blenders: dict[str, BlenderScores]
    simplest_first: tuple[str, ...]
    inputs: dict[str, str]
    rows: int
    fitted_rows: int | None = None
    compared_rows: int | None = None
    diversity: Diversity
    without_blender: str
    refitted_blender: str
    slices: dict[str, str]
    budget: BudgetUse | None = None
    options: FitOptions
    config: dict[str, Any]
    provenance: Provenance

    @property
    def used_members(self) -> dict[str, BlendMember]:
        """The members that have weight on any output."""
        rows = zip(self.members.items(), self.mixture.weights, strict=True)
        return {name: member for (name, member), weights in rows if any(weights)}

    @property
    def label(self) -> str:
        """What a reader is told of the metric: also the column whose groups it is averaged over."""
        by = self.config.get("metric_by")
        return self.metric if by is None else f"{self.metric} by {by}"

    def describe(self) -> str:
        """One line: the blender, the number of members, and the honest score."""
        used, honest = list(self.used_members), self.blenders[self.blender].honest
        what = used[0]
        if len(used) > 1:
            what = f"{self.blender} of {len(used)} of {len(self.members)} members"
        return f"{what}, honest {self.label} {honest:.4f} ({self.provenance.written})"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> BlendCard:
        """Refuse weights that do not fit the members and outputs."""
        weights, cuts = self.mixture.weights, self.mixture.cuts
        outputs = len(self.task.outputs)
        expected = {
            "task.kind": self.task.kind in KINDS,
            "metric": self.metric in METRICS,
            "blenders": self.blender in self.blenders,
            "mixture.weights": len(weights) == len(self.members)
            and all(len(row) == outputs for row in weights)
            and any(map(any, weights)),
        }
        wrong = [field for field, right in expected.items() if not right]
        if wrong:
            raise ValueError(f"{wrong[0]} does not agree with the rest of the card")
        sums = [sum(column) for column in zip(*weights, strict=True)]
        if self.blender != STACK and not all(math.isclose(s, 1, abs_tol=1e-6) for s in sums):
            raise ValueError(f"the weights sum to {sums}, expected 1")
        default = self.task.default_cuts
        if cuts is not None and (default is None or len(cuts) != len(default)):
            raise ValueError("mixture.cuts are not those of the task")
        return self
