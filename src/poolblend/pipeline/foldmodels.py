"""Run fold models from the store over a table: each loaded once, used, and freed.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel, build_model
from poolblend.pipeline.texts import Texts
from poolblend.store import Store
from poolblend.training.devices import choose_device
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict


class FoldModels:
    """The store's models over the rows of `texts`; what a model is, its own card says.

    Not whether code that comes with it may run: a store may be from elsewhere.
    """

    def __init__(
        self, store: Store, texts: Texts, batch_tokens: int, *, remote_code: bool = False
    ) -> None:
        self.store, self.texts, self.batch_tokens = store, texts, batch_tokens
        self.remote_code = remote_code

    def predict(
        self, member: str, fold: int, rows: np.ndarray, progress: str | None = None
    ) -> np.ndarray:
        """Predictions (N, K) of the table's rows at `rows`."""
        card = self.store.fold_card(member, fold) or {}
        inputs = card["inputs"]
        settings, task = inputs["settings"], inputs["task"]
        tensors = self.store.load_tensors(member, fold)  # first: hashes of the tokenizer, too
        encoded = self.texts.encode(
            self.store.fold_folder(member, fold),
            inputs["backbone_files_sha256"],
            settings["max_length"],
            inputs["text"],
            inputs.get("special_tokens", "tokens"),
        )
        model = self._load(member, fold, card, tensors).to(choose_device())
        with enough_memory("lower batch_tokens"):
            pred_NK = predict(
                model,
                encoded,
                rows,
                choose_objective(task["kind"], settings["train"]["loss"]),
                batch_tokens=self.batch_tokens,
                precision=settings["train"]["precision"],
                progress=progress,
            )
        del model, tensors
        release_memory()
        return pred_NK

    def _load(
        self, member: str, fold: int, card: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> TextModel:
        settings, task = card["inputs"]["settings"], card["inputs"]["task"]
        model, _ = build_model(
            backbone.build(self.store.fold_folder(member, fold), remote_code=self.remote_code),
            pooler=settings["pooler"],
            pooler_args=settings["pooler_args"],
            mask=settings["mask"],
            n_outputs=len(task["outputs"]),
            **settings["head"],
        )
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the weights of {member} fold {fold} do not fit its card: {reason}"
            ) from None
        return model


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Turn the device's running out of memory into a line that says what to set."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise UserError(f"the device is out of memory ({reason}); {advice}") from None


def release_memory() -> None:
    """Give a dropped model's memory back before the next one is loaded."""
    gc.collect()
    torch.cuda.empty_cache()
    # Batches of ever other shapes leave glibc's heap full of holes, over 1 GB after one fold of
    # MiniLM, growing with each. Other C libraries lack the function, or the need.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
