"""What a blend card says to do, and the fold models that do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.metrics import METRICS
from poolblend.config import Config
from poolblend.ensembling.mixture import Mixture
from poolblend.errors import UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.competition import restore_task
from poolblend.loading.texts import Texts
from poolblend.store import Store


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a blend card says to do: the mixture of the members that have weight.

    `line` says which blend it is, and its honest score.
    """

    card: Mapping[str, Any]
    mixture: Mixture
    members: dict[str, Mapping[str, Any]]
    line: str


def read_recipe(store: Store) -> Recipe:
    """The store's blend card, parsed; UserError where it is not whole."""
    card = store.read_blend()
    try:
        task = restore_task(card["task"])
        mixture = Mixture.from_json(card["mixture"], task.kind)
        weighty_M = np.asarray(mixture.weights_MK.any(axis=1))
        names = list(card["members"])
        members = {name: card["members"][name] for name in np.array(names)[weighty_M].tolist()}
        METRICS[card["metric"]]
        whole = mixture.weights_MK.shape == (len(names), len(task.outputs)) and bool(members)
        whole &= all(_knows_its_files(member) for member in members.values())
        cuts, default = mixture.cuts, task.default_cuts
        whole &= cuts is None or (default is not None and cuts.shape == default.shape)
        sums_K = mixture.weights_MK.sum(axis=0)
        whole &= card["blender"] == "stack" or bool(np.allclose(sums_K, 1, atol=1e-6))
        recipe = Recipe(card, mixture.only(weighty_M), members, _line(card, members))
        whole &= all(card[key] for key in ("blender", "sentence", "written"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        whole = False
    if not whole:
        raise UserError(f"{store.blend_path} is no whole blend card; run blend.py again")
    return recipe


def _line(card: Mapping[str, Any], members: Mapping[str, Any]) -> str:
    used = card["blenders"][card["blender"]]
    what = f"{card['blender']} of {len(members)}" if len(members) > 1 else next(iter(members))
    count = f" of {len(card['members'])} members" if len(members) > 1 else ""
    return f"{what}{count}, honest {card['metric']} {used['honest']:.4f} ({card['written']})"


def _knows_its_files(member: Mapping[str, Any]) -> bool:
    if "from" not in member:
        return bool([fold["weights_sha256"] for fold in member["folds"]])
    places = [member["from"], *([] if member["test"] is None else [member["test"]])]
    return all(isinstance(place[key], str) for place in places for key in ("path", "sha256"))


def check_unchanged(store: Store, name: str, member: Mapping[str, Any]) -> list[str]:
    """The columns that a member reads, by its cards; refuses models trained since the blend."""
    columns: list[str] = []
    for fold, hashes in enumerate(member.get("folds", ())):
        card = store.fold_card(name, fold)
        if card is None:
            raise UserError(
                f"{name} fold {fold} is in the blend but not in the store; copy or train it "
                f"({store.fold_folder(name, fold)}), or run blend.py again"
            )
        if card.files.weights.sha256 != hashes["weights_sha256"]:
            raise UserError(
                f"{name} fold {fold} was trained again after the blend; run blend.py again"
            )
        columns = list(card.inputs.reading.text)
    return columns


def fold_models(config: Config, store: Store, table: pd.DataFrame, name: str) -> FoldModels:
    """The store's models over the rows of `table`, which the log calls `name`."""
    texts = Texts(table, name, config.remote_code, config.batch_tokens)
    return FoldModels(store, texts, config.batch_tokens, remote_code=config.remote_code)
