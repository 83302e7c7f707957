"""Train one backbone on further, on the texts of train and test: `backbone.mlm`.

It learns to guess masked tokens. No label is seen; validation texts are, just as test texts are.
Source: task-adaptive pre-training, Gururangan et al. 2020, arXiv:2004.10964.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate.utils import set_seed

from poolblend.cards.provenance import provenance
from poolblend.competition.templates import text_columns
from poolblend.config import Config, derive_seed
from poolblend.config.sections import Backbone
from poolblend.errors import UserError
from poolblend.jobs.keeping import Intervals, Keeper
from poolblend.jobs.rehearsal import survived
from poolblend.jobs.two_rows import try_pretraining
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.masked_lm import MaskedLanguageModel, load_masked_lm, trained_parts
from poolblend.modeling.options import MaskedLanguage
from poolblend.modeling.reading import tokenizer_source
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.training.batches import Encoded, concatenated
from poolblend.training.devices import Precision, choose_device, resolve_precision
from poolblend.training.fit import Epoch, Fit
from poolblend.training.masked import OWN_LOSS, distinct_pieces, held_out_loss
from poolblend.training.memory import enough_memory
from poolblend.training.options import Train

log = logging.getLogger(__name__)

HELD_OUT = 0.05  # share of the texts
BEFORE = "held_out_before"
OUT_OF_MEMORY = "lower backbone.mlm.max_length, or set train.gradient_checkpointing=true"


class Begun(NamedTuple):
    """A training, the backbone it began from, and the rows of its texts that it never sees."""

    base: backbone.Backbone
    model: MaskedLanguageModel
    fit: Fit
    held_out: np.ndarray


class Pretrainer:
    """Trains the backbone that `settings` describe, from where its source lies."""

    def __init__(
        self,
        config: Config,
        competition: Competition,
        store: Store,
        settings: Backbone,
        source: Located,
        watch: Watch,
    ) -> None:
        assert settings.mlm is not None
        self.config, self.competition, self.watch = config, competition, watch
        self.source, self.mlm = source, settings.mlm
        self.files, self.label = store.backbone(settings.name), f"backbone {settings.name}"
        self.seed = derive_seed(config.seed, "backbone", settings.name)
        self.precision: Precision = config.train.precision
        self._settings = settings

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """All that its weights depend on, besides library versions and the machine."""
        data, tables = self.config.data, self.competition.tables
        columns = text_columns(data.text)
        tokenizer = tokenizer_source(self.source.folder, self.config.remote_code)
        return {
            "source_sha256": self.source.weights_sha256,
            "source_files_sha256": self.source.files_sha256,
            **({} if tokenizer is None else {"tokenizer": tokenizer}),
            "train_texts_sha256": _texts_sha256(tables.train[columns]),
            "test_texts_sha256": _texts_sha256(tables.test[columns]),
            "text": data.text,
            "join": data.join,
            "special_tokens": data.special_tokens,
            "precision": self.config.train.precision,
            "seed": self.seed,
            "mlm": self.mlm.model_dump(),
        }

    def rehearse(self) -> None:
        """Try a step on two texts, saving and loading; fp32 is taken where `auto` does not survive.

        Raises UserError where that cannot be done.
        """

        def attempt(precision: Precision) -> None:
            options = _options(self.mlm, self.config, precision)
            # A rate that is too high is the training's to find.
            options = options.model_copy(update={"epochs": 1, "lr": min(options.lr, 1e-5)})
            try_pretraining(self.config, self._settings, self.source, options, self.seed)

        self.precision = survived(self.label, self.config.train.precision, attempt)

    def train(self) -> None:
        """Train the backbone and put it into the store; goes on from its newest checkpoint.

        Raises Stopped when the watch says so, with a checkpoint written.
        """
        started = time.perf_counter()
        begun = self._begin()
        fit = begun.fit
        intervals = Intervals(self.config.checkpoints.minutes, self.config.checkpoints.steps)
        keeper = Keeper(fit, self.files.checkpoints, self.inputs, intervals, self.watch, self.label)
        keeper.resume(self.files.checkpoints.newest())
        with enough_memory(OUT_OF_MEMORY):
            if BEFORE not in fit.notes:
                before = self._loss(begun, self.watch.check)
                fit.notes[BEFORE] = torch.tensor([before], dtype=torch.float64)
            self.watch.took("the beginning of a backbone", time.perf_counter() - started)
            for epoch in self._epochs(fit, keeper):
                keeper.write()
                after = self._loss(begun, keeper.after_batch)
                keeper.epochs.append(asdict(epoch) | {"held_out_loss": after})
        losses = {"before": fit.notes[BEFORE].item(), "after": after}
        fit.finish()
        seconds = round(time.perf_counter() - started, 1)
        self.files.save(
            parts=trained_parts(begun.base, begun.model),
            card={**self._card(begun, keeper), "held_out_loss": losses, "seconds": seconds},
        )
        log.info(
            "%s: loss on masked tokens of %d held-out texts %.4f before, %.4f after (%.0f s)",
            self.label,
            len(begun.held_out),
            losses["before"],
            losses["after"],
            seconds,
        )

    def _begin(self) -> Begun:
        """A training that has not begun; all its chance comes from the seed."""
        set_seed(self.seed)
        base, model = load_masked_lm(
            self.source.folder, share=self.mlm.mask, remote_code=self.config.remote_code
        )
        encoded = self._encode(base.tokenizer.all_special_ids)
        n_rows = len(encoded.ids)
        n_held_out = max(1, round(HELD_OUT * n_rows))
        if n_rows <= n_held_out:
            raise UserError(
                f"{self.label}: {n_rows} texts differ, and some are held out; leave out mlm"
            )
        order = np.random.default_rng(self.seed).permutation(n_rows)
        trained: Any = model  # a fit takes whatever has an encoder and gives losses
        targets = OWN_LOSS.targets(np.arange(n_rows))
        options = _options(self.mlm, self.config, self.precision)
        rows = np.sort(order[n_held_out:])
        fit = Fit(trained, encoded, rows, targets, OWN_LOSS, options, self.seed)
        return Begun(base, model, fit, np.sort(order[:n_held_out]))

    def _encode(self, special: list[int]) -> Encoded:
        """The texts of both tables, longer ones in pieces."""
        data, tables = self.config.data, self.competition.tables
        both = [
            Texts(table, f"{self.label}: {name}", self.config.remote_code).encode(
                self.source.folder,
                self.source.files_sha256,
                self.mlm.max_length,
                data.text,
                data.special_tokens,
                join=data.join,
                windows=None if data.join == "pair" else (0, None),
            )
            for table, name in ((tables.train, "train"), (tables.test, "test"))
        ]
        return distinct_pieces(concatenated(*both), special)

    def _epochs(self, fit: Fit, keeper: Keeper) -> Iterator[Epoch]:
        try:
            yield from fit.run(progress=self.label, after_step=keeper.after_step)
        except UserError as error:  # the fit knows its members' keys
            told = str(error).replace("train.lr", "backbone.mlm.lr")
            raise type(error)(f"{self.label}: {told}") from None

    def _loss(self, begun: Begun, after_batch: Callable[[], None]) -> float:
        """On the texts held out, of which the same tokens are masked each time."""
        return held_out_loss(
            begun.model,
            begun.fit.encoded,
            begun.held_out,
            seed=self.seed,
            batch_tokens=self.config.batch_tokens,
            precision=self.precision,
            after_batch=after_batch,
        )

    def _card(self, begun: Begun, keeper: Keeper) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "epochs": keeper.epochs,
            "rows": {"train": len(begun.fit.rows), "held_out": len(begun.held_out)},
            "resumed_at_steps": keeper.resumed,
            "batches_cut_into": begun.fit.pieces,
            "device": choose_device().type,
            "precision": resolve_precision(self.precision, choose_device()),
            "config": self.config.model_dump(),
            **provenance(),
        }


def _options(mlm: MaskedLanguage, config: Config, precision: Precision) -> Train:
    run = config.train
    return Train(
        epochs=mlm.epochs,
        batch_size=mlm.batch_size,
        lr=mlm.lr,
        head_lr=None,
        precision=precision,
        gradient_checkpointing=run.gradient_checkpointing,
    )


def _texts_sha256(texts: pd.DataFrame) -> str:
    """Hex digest of the cells, row by row."""
    rows = texts.fillna("").to_numpy().tolist()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
