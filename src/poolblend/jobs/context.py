"""What the jobs of one competition share in a process: its tables, tokens and stop signals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.cards.fold import FoldBase
from poolblend.config import Config, Member
from poolblend.errors import UserError
from poolblend.jobs.bases import keep_base
from poolblend.jobs.estimate import Estimate
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition, load_competition, open_store
from poolblend.loading.dataset import Datasets
from poolblend.loading.models import load_backbone, locate_backbone
from poolblend.modeling import backbone
from poolblend.modeling.options import Backbone
from poolblend.modeling.sources import Located
from poolblend.store import Store


@dataclass(eq=False)
class Context:
    """Made once in each process that does jobs.

    `located` holds the backbones that were found on this machine already.
    """

    config: Config
    competition: Competition
    store: Store
    located: dict[Backbone, Located]
    watch: Watch
    estimate: Estimate = field(default_factory=lambda: Estimate({}))  # of the time left
    speeds: dict[str, float] = field(default_factory=dict)  # seconds per token, by member, as timed
    _moved: bool = False  # backbones are those of this machine
    # Encoders that no training changes, and that frozen members share.
    _frozen: dict[tuple[Located, str, str], backbone.Backbone] = field(default_factory=dict)
    _bases: dict[tuple[Located, str], FoldBase | None] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Context:
        """The context of jobs that come from another process, which has frozen their folds."""
        store = open_store(config)
        return cls(config, load_competition(config, store), store, {}, Watch())

    @cached_property
    def datasets(self) -> Datasets:
        """The folds' datasets; texts are tokenised once."""
        return Datasets(self.config, self.competition, self.store)

    @property
    def ids(self) -> pd.Series:
        """Of the train table's rows."""
        tables = self.competition.tables
        return tables.train[tables.id]

    def move(self, store: Store, fetch: Callable[[tuple[str, str]], Path]) -> None:
        """Use that store, on another machine; `fetch` gets backbones that it lacks, by hashes."""
        self.store = self.datasets.store = store
        self._bases.clear()
        if self._moved:
            return
        self._moved = True
        for source, wanted in self.located.items():
            hashes = (wanted.weights_sha256, wanted.files_sha256)
            with suppress(UserError):
                here = locate_backbone(self.config, source)
                if (here.weights_sha256, here.files_sha256) == hashes:
                    self.located[source] = here
                    continue
            self.located[source] = Located(fetch(hashes), *hashes)

    def rows_of(self, fold: int) -> np.ndarray:
        """Positions of the fold's rows in the train table."""
        return np.flatnonzero(self.competition.fold_N == fold)

    def locate(self, backbone: Backbone) -> Located:
        """Where the backbone lies on this machine; searched and hashed once."""
        if backbone not in self.located:
            self.located[backbone] = locate_backbone(self.config, backbone)
        return self.located[backbone]

    def frozen_backbone(self, member: Member, located: Located) -> backbone.Backbone:
        """The backbone of a member with a frozen encoder, loaded once."""
        key = located, member.train.attention, member.backbone.dtype
        if key not in self._frozen:
            self._frozen[key] = load_backbone(member, located, self.config.remote_code)
        return self._frozen[key]

    def base(
        self, member: Member, located: Located, loaded: backbone.Backbone | None
    ) -> FoldBase | None:
        """The backbone's copy in the store, made or checked once; None: its weights are no file.

        `loaded` is what `keep_base` says.
        """
        key = located, member.backbone.dtype
        if key not in self._bases:
            self._bases[key] = keep_base(self.config, self.store, member, located, loaded)
        return self._bases[key]

    def backbone(self, member: Member) -> Located:
        """What the member's training starts from: its backbone, or the one trained further.

        Raises UserError where that has not been trained yet.
        """
        if not member.backbone.mlm:
            return self.locate(member.backbone)
        files = self.store.backbone(member.backbone.name)
        card = files.card()
        if card is None:
            raise UserError(f"backbone {member.backbone.name} is not trained further yet")
        hashes = card.hashes()
        return Located(files.folder, hashes.weights_sha256, hashes.files_sha256)
