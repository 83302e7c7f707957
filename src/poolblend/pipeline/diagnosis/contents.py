"""What the run works with: tables, folds, backbones, and the fold models that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from poolblend.config import Member
from poolblend.errors import UserError
from poolblend.pipeline.diagnosis.checks import (
    Finding,
    Run,
    check,
    fail,
    failure,
    ok,
    size,
    source_of,
)

if TYPE_CHECKING:
    from poolblend.modeling.sources import Located

TEXTS = ["", "A text, to see whether the encoder reads it."]


@check("tables", fix="mend the file, or the config's `data` section")
def tables(run: Run) -> Iterator[Finding]:
    """The tables are read and checked, and frozen folds are of their ids."""
    from poolblend.pipeline.competition import read_tables, with_folds
    from poolblend.pipeline.trials import try_folds

    data, folder = run.config.data, run.config.data_dir
    names = (data.train, data.test, data.sample_submission)
    if data.demo and not any((folder / name).exists() for name in names):
        yield ok("the demo competition; the first run makes it")
        return
    # Without `demo` nothing is made, whatever of it is there.
    config = run.config.model_copy(update={"data": data.model_copy(update={"demo": False})})
    tabled = read_tables(config)
    rows = f"{len(tabled.tables.train)} train and {len(tabled.tables.test)} test rows"
    yield ok(f"{rows} in {folder}")
    if not run.store.folds_path.exists():
        yield ok("the first run makes them", "folds")
        return
    try:
        competition = with_folds(tabled, config, run.store, make_folds=True)  # which there are
        try_folds(competition)
    except UserError as error:
        yield failure(
            error,
            "restore that file or the data, or use a new `run`, which makes folds of its own",
            "folds",
        )
    else:
        yield ok(f"{competition.n_folds}, of the train table's ids", "folds")


@check(
    "backbone",
    fix="install it anew; or fetch it where there is a network and set `backbone` to its folder",
)
def backbones(run: Run) -> Iterator[Finding]:
    """Each backbone loads without a network, and every member on it runs a text."""
    from poolblend.training.devices import out_of_memory

    for source, located in run.located.items():
        members = [member for member in run.members if source_of(member) == source]
        name = members[0].backbone.name
        try:
            if isinstance(located, Exception):
                raise located
            _forward(run, located, members)
        except ImportError:
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or out_of_memory(error):
                yield fail(f"{name} does not fit into memory", "take a smaller one, or free memory")
            else:
                yield failure(error, backbones.fix)
        else:
            weights = size(run.weights.get(source, 0))
            count = f"{len(members)} member{'s' if len(members) > 1 else ''}"
            yield ok(f"{name}: {weights}, loaded offline; forward pass of {count} is finite")


def _forward(run: Run, located: Located, members: Sequence[Member]) -> None:
    """One forward pass of each member; UserError where it cannot be built, or is not finite."""
    import numpy as np
    import torch

    from poolblend.modeling import backbone, masked_lm
    from poolblend.modeling.model import build_model
    from poolblend.training.batches import collate, encode
    from poolblend.training.head_fitting import check_head
    from poolblend.training.objectives import resolve_loss

    config, folder, code = run.config, located.folder, run.config.remote_code
    longest = max(member.max_length for member in members)
    backbone.check(folder, longest, remote_code=code)
    base = backbone.load(folder, remote_code=code)
    for member in members:
        try:
            if member.backbone.mlm is not None:
                masked_lm.check(folder, member.backbone.mlm.max_length, remote_code=code)
            if member.head.kind != "linear":
                check_head(member.head.kind, config.task)
            else:
                resolve_loss(config.task, member.train.loss)
            model, _ = build_model(
                base,
                pooler=member.pooler,
                pooler_args=member.pooler_args,
                mask=member.mask,
                n_outputs=1,
                dropout=member.head.dropout,
                norm=member.head.norm,
            )
        except UserError as error:
            raise UserError(f"member {member.name}: {error}") from None
        encoded = encode(
            [TEXTS], base.tokenizer, member.max_length, special_tokens=config.data.special_tokens
        )
        model.pooler.fit(encoded.ids)
        with torch.inference_mode():
            logits = model.eval()(collate(encoded, np.arange(len(TEXTS)), full_width=False))
        if not torch.isfinite(logits).all():
            raise UserError(
                f"{folder}: a forward pass of {member.name} gives {logits.flatten()[-1]}, "
                "not a number"
            )


@check("fold models", fix="python train.py --check, which reads every file")
def fold_models(run: Run) -> Iterator[Finding]:
    """How many fold models are finished, and whether their cards are whole."""
    total = len(run.members) * run.config.folds.n
    told = f"{total - len(run.unfinished)} of {total} are finished"
    damaged = [error for *_, error in run.unfinished if error]
    if damaged:
        others = f"; and {len(damaged) - 1} more" if damaged[1:] else ""
        first = failure(damaged[0], "").found
        yield fail(
            f"{told}; {first}{others}",
            "python train.py --check names all that is damaged, train.py --overwrite trains it",
        )
    else:
        yield ok(told + "; python train.py --check reads every byte of them" * (told[0] != "0"))
