"""Send a training's losses and scores to TensorBoard, Weights & Biases or MLflow.

Tracking is no input of a fold: the trained model is the same with and without it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from poolblend.cards.fold_names import file_name
from poolblend.config import Config, Member
from poolblend.errors import UserError
from poolblend.store import Store

log = logging.getLogger(__name__)

MOST_POINTS = 200  # of a fold's losses; MLflow takes 35 ms for each


class Follower:
    """Sends what happens in one fold's training to a tracker of accelerate, if there is one.

    When the tracker fails, without a network for example, that is logged and it is not used again.
    """

    def __init__(self, every: int = 1) -> None:
        self.tracker: Any = None
        self._every = every

    def wants(self, n: int) -> bool:
        """Whether the optimizer step `n`, counted from 1, is one of those that are sent."""
        return self.tracker is not None and n % self._every == 0

    def step(self, loss: float, rate: float, n: int) -> None:
        """The loss and the learning rate of the optimizer step `n`."""
        if self.wants(n):
            values = {"loss": loss, "learning rate": rate}
            self.attempt(lambda: self.tracker.log(values, step=n))

    def epoch(self, epoch: Mapping[str, Any], n: int) -> None:
        """What the card says of the epoch that ended with step `n`."""
        if self.tracker:
            values = {"epoch loss": epoch["loss"], "score": epoch["score"]}
            known = {key: value for key, value in values.items() if value is not None}
            self.attempt(lambda: self.tracker.log(known, step=n))

    def close(self) -> None:
        if self.tracker:
            self.attempt(self.tracker.finish)
            self.tracker = None

    def attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            log.warning("tracking failed, the training continues without it: %s", reason)
            self.tracker = None


def check_tracking(config: Config) -> None:
    """Raise UserError where the package that is to track is not installed."""
    name = config.tracking
    if name != "none" and find_spec(name) is None:
        raise UserError(f"tracking: {name} is not installed; pip install {name}")


def follow(
    config: Config,
    store: Store,
    member: Member,
    fold: int,
    inputs: Mapping[str, Any],
    *,
    n_steps: int,
    steps_done: int,
) -> Follower:
    """The follower of a training from the step `steps_done` on; its run is <member>-fold<k>."""
    follower, name = Follower(every=max(1, n_steps // MOST_POINTS)), member.name
    name += f"-{file_name(fold)}"

    def start() -> None:
        follower.tracker = _tracker(config, name, store.open_tracking(), inputs, steps_done)
        follower.tracker.start()
        if steps_done == 0:
            flat = pd.json_normalize(dict(member.settings)).to_dict("records")[0]
            settings = {
                str(key): value if isinstance(value, str | int | float) else json.dumps(value)
                for key, value in flat.items()
            }
            follower.tracker.store_init_configuration({"fold": fold, **settings})

    if config.tracking != "none":
        follower.attempt(start)
    return follower


def _tracker(
    config: Config, name: str, folder: Path, inputs: Mapping[str, Any], steps_done: int
) -> Any:
    """Accelerate's tracker, not started, whose files are in `folder`."""
    from accelerate import tracking

    if config.tracking == "tensorboard":
        # What a killed training sent of later steps is sent again.
        return tracking.TensorBoardTracker(name, logging_dir=folder, purge_step=steps_done + 1)
    if config.tracking == "wandb":
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_CONSOLE", "off")  # else it records the progress bar
        mode = "online" if "WANDB_API_KEY" in os.environ else "offline"
        key = json.dumps([config.run, name, inputs], sort_keys=True, default=str)
        return tracking.WandBTracker(
            config.run,
            name=name,
            id=hashlib.sha256(key.encode()).hexdigest()[:16],  # a resumed fold continues its run
            resume="allow",
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE") or mode,
        )
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return tracking.MLflowTracker(
        config.run, logging_dir=(folder / "mlflow").as_uri(), run_name=name
    )
