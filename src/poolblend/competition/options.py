"""What a config says of a competition: its tables, its folds, its submission."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poolblend import text_spec
from poolblend.competition.templates import is_template, text_columns, without_braces
from poolblend.errors import quoted, unknown
from poolblend.options import PathText, Section, Seed, checked, repeated

Side = Literal["train", "test"]
RowIds = Literal["auto", "sample", "test"]
KeepTogether = Literal["duplicates", "none"]


class Join(Section):
    """A table whose columns are added to each row by a key: one row of it per key."""

    train: PathText  # the table for train
    test: PathText | None = None  # the table for test; default: the same
    on: str  # the key's column, in both tables

    def table(self, side: Side) -> str:
        """The path of the table that is joined to this side."""
        return self.train if side == "train" else self.test or self.train


class Swap(Section):
    """Pairs that change places: columns of a row, and what the row's label then becomes.

    `swap: [a, b]` is short for `swap: {columns: {a: b}}`: the label stays.
    """

    columns: dict[str, str] = Field(min_length=1)  # a column of text or numbers, and its partner
    # What a label becomes, as text: {"model_a": "model_b"}; or an output, where several columns are
    # the target: {"winner_a": "winner_b"}. Labels that are not named stay.
    labels: dict[str, str] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _two_columns_are_a_pair(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if len(value) != 2:
            raise ValueError(f"a list of two columns change places, not of {len(value)}")
        return {"columns": {value[0]: value[1]}}

    @field_validator("labels", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return {str(a): str(b) for a, b in value.items()} if isinstance(value, dict) else value

    @field_validator("columns", "labels")
    @classmethod
    def _changes_places_once(cls, value: dict[str, str]) -> dict[str, str]:
        pairs = {frozenset(pair) for pair in value.items()}  # {a: b, b: a} is one pair
        twice = repeated(name for pair in pairs for name in pair)
        if twice is not None or any(len(pair) < 2 for pair in pairs):
            name = twice or next(key for key in value if value[key] == key)
            raise ValueError(f"{quoted(name)} changes places with more than one, or with itself")
        return value

    @property
    def renamed(self) -> dict[str, str]:
        """Every column that changes places, and the one that it becomes."""
        return {**self.columns, **{b: a for a, b in self.columns.items()}}


class Data(Section):
    """Where the competition's tables are and what their columns mean."""

    dir: PathText = ""  # empty: input/<run>; relative paths start at the project's folder
    # Each table: a CSV or parquet file, or a folder of parquet files, which is read as one table.
    train: PathText = "train.csv"
    test: PathText = "test.csv"
    sample_submission: PathText = "sample_submission.csv"
    test_labels: PathText | None = None  # hidden labels, where known: only to score the submission
    demo: bool = False  # make the demo competition in `dir` when its files are absent
    # null: train has none and its rows are numbered from 0; test's are the sample's first column.
    id: str | None = "id"
    # A column; several, joined as `join` says; or a template such as "{keyword} [SEP] {text}".
    text: list[str] = Field(["text"])
    join: text_spec.Join = "separator"  # pair: as the tokenizer joins two texts
    joins: list[Join] = Field([])  # further tables, looked up by a key
    # A column; several; or a template whose filled text is the label: "{category}:{kind}".
    target: list[str] = Field(["target"])
    # The binary label that counts as 1; default: found by column names and known words.
    positive: int | float | str | None = None
    # Columns that change places: encoders learn and predict each row in both orders.
    swap: Swap | None = None
    classes: list[int | float | str] | None = None  # labels that may occur; others are refused
    # Columns of soft labels to learn from: probabilities, one per output.
    soft: list[str] = Field([])
    # A column of train and test with the labels that are possible in a row, such as "A B D" or
    # "Lab A, Lab B"; empty: all are. The probabilities of others become 0. Of a multiclass task.
    possible: str | None = None
    weight: str | None = None  # a column: how much a train row counts; 0: scored, not learned from
    # Columns joined to the pooled vector: medians for gaps, standardised.
    numeric: list[str] = Field([])
    categorical: list[str] = Field([])  # likewise, one-hot
    sample_rows: int | None = Field(None, ge=2)  # train on a seeded random subset, to try things
    # Whether "[CLS]" or "</s>" inside a text is ordinary text or the tokenizer's special token.
    special_tokens: text_spec.SpecialTokens = "text"

    @property
    def targets(self) -> list[str]:
        """The targets' names: columns, or the one that a template fills, named without braces."""
        return [without_braces(self.target[0])] if is_template(self.target) else self.target

    @property
    def inputs(self) -> list[str]:
        """The columns that test must have beside ids: texts, and all that stands beside them."""
        more = [] if self.possible is None else [self.possible]
        return [*text_columns(self.text), *self.numeric, *self.categorical, *more]

    @field_validator("text", "target", "soft", "numeric", "categorical", mode="before")
    @classmethod
    def _one_column_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _columns_differ(self) -> Data:
        twice = repeated([*([] if self.id is None else [self.id]), *self.text, *self.target])
        if twice is not None:
            raise ValueError(f"column {quoted(twice)} is named twice among id, text and target")
        twice = repeated([*self.numeric, *self.categorical])
        if twice is not None:
            raise ValueError(f"column {quoted(twice)} is named twice in numeric, categorical")
        answers = {*self.target, *self.soft}
        if self.weight in answers or len(answers) < len(self.target) + len(self.soft):
            raise ValueError("target, soft and weight must be columns that differ")
        if self.swap is not None:
            kinds = {"text": text_columns(self.text), "numeric": self.numeric}
            kinds["categorical"] = self.categorical
            kind_of = {name: kind for kind, names in kinds.items() for name in names}
            for name, other in self.swap.renamed.items():
                if name not in kind_of:
                    raise unknown("column", name, kind_of, "of text or numbers in data.swap")
                if kind_of[name] != kind_of.get(other, kind_of[name]):
                    raise ValueError(
                        f"swap: {quoted(name)} is {kind_of[name]}, {quoted(other)} is "
                        f"{kind_of[other]}; only columns of one kind change places"
                    )
        if self.join == "pair" and len(self.text) != 2:
            raise ValueError(f"join=pair needs two columns of text, not {len(self.text)}")
        return self

    @field_validator("text", "target")
    @classmethod
    def _names_columns(cls, value: list[str]) -> list[str]:
        if not value or len(set(value)) < len(value):
            raise ValueError("must name at least one column, each once")
        return value


class Folds(Section):
    """How rows are assigned to folds; done once, then read from folds.csv."""

    strategy: str = "auto"  # auto: by the task
    n: int = Field(5, ge=2)  # how many
    seed: Seed = 42
    groups: str | None = None  # a train column whose rows of one value stay in one fold
    # Rows whose texts are equal, but for case and spaces, stay in one fold.
    keep_together: KeepTogether = "duplicates"
    # A class with fewer rows or groups than folds is spread over some folds, or refused.
    rare: Literal["spread", "refuse"] = "spread"
    bins: int = Field(10, ge=2)  # of a regression target, for stratification

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("fold strategy", value, ("auto",))


class Submission(Section):
    """What is submitted; `submission: labels` is short for `submission: {values: labels}`."""

    # auto: probabilities where the sample has a column per class, else the metric's inputs.
    values: Literal["auto", "labels", "probabilities"] = "auto"
    # The rows: the sample's, or one for each of test's ids; auto: test's where it holds more.
    ids: RowIds = "auto"
    # What fills a column of the sample: an output (target or class), a label, or copy (its own
    # cells); columns that are not named here are matched by name.
    columns: dict[str, int | float | str] = Field({})
    top: int | None = Field(None, ge=1)  # labels in a cell, the most probable first; null: as there

    @model_validator(mode="before")
    @classmethod
    def _a_word_alone_is_values(cls, value: Any) -> Any:
        return {"values": value} if isinstance(value, str) else value
