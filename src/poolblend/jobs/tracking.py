"""Send a training's losses and scores to TensorBoard, Weights & Biases or MLflow.

None of this is an input of a fold: what is trained is the same with and without it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from poolblend.config import Config, Member
from poolblend.errors import UserError
from poolblend.store import Store

log = logging.getLogger(__name__)

MOST_POINTS = 200  # of a fold's losses; MLflow takes 35 ms for each


class Follower:
    """Follows one fold's training; this one keeps nothing."""

    def step(self, loss: float, rate: float, n: int) -> None:
        """The loss and the learning rate of the optimizer step `n`, counted from 1."""

    def epoch(self, told: Mapping[str, Any], n: int) -> None:
        """What a card tells of the epoch that ended with step `n`."""

    def close(self) -> None:
        """No more will come of this training."""


class Tracked(Follower):
    """Sends what it is told to one of accelerate's trackers, made by `start`.

    A tracker that fails, for want of a network, say, is warned of once, and not used again.
    """

    def __init__(self, name: str, start: Callable[[], Any], n_steps: int) -> None:
        self._name = name
        self._every = max(1, n_steps // MOST_POINTS)
        self._tracker: Any = None
        self._failed = False
        self._try(lambda: self._start(start))

    def describe(self, settings: Mapping[str, str | int | float]) -> None:
        """Keep these as the run's hyper-parameters."""
        self._try(lambda: self._tracker.store_init_configuration(dict(settings)))

    def step(self, loss: float, rate: float, n: int) -> None:
        if n % self._every == 0:
            self._try(lambda: self._tracker.log({"loss": loss, "learning rate": rate}, step=n))

    def epoch(self, told: Mapping[str, Any], n: int) -> None:
        values = {"epoch loss": told["loss"], "score": told["score"]}
        known = {key: value for key, value in values.items() if value is not None}
        self._try(lambda: self._tracker.log(known, step=n))

    def close(self) -> None:
        self._try(lambda: self._tracker.finish())  # noqa: PLW0108 - it may be None
        self._tracker = None

    def _start(self, start: Callable[[], Any]) -> None:
        self._tracker = start()
        self._tracker.start()

    def _try(self, act: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            act()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            log.warning("%s failed, the training goes on without it: %s", self._name, reason)
            self._failed = True


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
    """Who follows the fold's training from the step `steps_done` on, as `tracking` says.

    A run <member>-fold<k> in a project of the run's name; one that was begun goes on.
    """
    if config.tracking == "none":
        return Follower()
    name = f"{member.name}-fold{fold}"

    def start() -> Any:
        folder = store.open_tracking()
        if config.tracking == "wandb":
            return _wandb(config.run, name, folder, inputs)
        if config.tracking == "mlflow":
            return _mlflow(config.run, name, folder, begun=steps_done > 0)
        return _tensorboard(name, folder, steps_done)

    follower = Tracked(config.tracking, start, n_steps)
    if steps_done == 0:
        follower.describe({"fold": fold, **flattened(member.settings)})
    return follower


def _tensorboard(name: str, folder: Path, steps_done: int) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # What was told of later steps, before the training was killed, is told again.
    return TensorBoardTracker(name, logging_dir=folder, purge_step=steps_done + 1)


def _wandb(project: str, name: str, folder: Path, inputs: Mapping[str, Any]) -> Any:
    wandb = import_module("wandb")
    from accelerate.tracking import WandBTracker

    known = json.dumps([project, name, inputs], sort_keys=True, default=str)
    keyed = "WANDB_API_KEY" in os.environ
    mode = os.environ.get("WANDB_MODE") or ("online" if keyed else "offline")
    return WandBTracker(
        project,
        name=name,
        id=hashlib.sha256(known.encode()).hexdigest()[:16],
        resume=None if mode == "offline" else "allow",
        dir=str(folder),
        mode=mode,
        settings=wandb.Settings(silent=True, console="off"),  # the terminal is the progress bar's
    )


def _mlflow(experiment: str, name: str, folder: Path, *, begun: bool) -> Any:
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    mlflow = import_module("mlflow")
    from accelerate.tracking import MLflowTracker

    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    runs = begun and mlflow.search_runs(
        experiment_names=[os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment)],
        filter_string=f"attributes.run_name = '{name}'",
        max_results=1,
        output_format="list",
    )
    return MLflowTracker(
        experiment,
        logging_dir=(folder / "mlflow").as_uri(),
        run_name=name,
        run_id=runs[0].info.run_id if runs else None,
    )


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float]:
    """Nested settings under keys such as "train.lr"; what is no number or text is JSON."""
    flat: dict[str, str | int | float] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float):
            flat[f"{prefix}{key}"] = value
        else:
            flat[f"{prefix}{key}"] = json.dumps(value)
    return flat
