"""Runs from Python, for notebooks: `import poolblend as pb`, then `pb.Run(…)`.

Each method calls the function of `pipeline` that the command calls, on the same files: what a
notebook has trained, a command can blend, and the other way round.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend import config, pipeline
from poolblend.errors import Stopped, UserError
from poolblend.jobs.starting import prepare, set_up
from poolblend.printing import AboveBars

if TYPE_CHECKING:
    import pandas as pd

    from poolblend.config import Config
    from poolblend.report.result import BlendResult

log = logging.getLogger(__name__)

# Keys that are given as often as `task` and `metric`, and stand in the section `data`.
OF_DATA = ("id", "text", "target")


class Run:
    """One competition: its tables, folds and members, as a config describes them.

    `Run("configs/mine.yaml")` reads a config, whose `run` and `store` are `name` and `folder`, if
    these are given. `Run(train=…, test=…, task=…, …)` takes DataFrames,
    which are written once as parquet files into `<folder>/input/<name>/`; everything else of the
    run is stored below `folder`, too. Every key of a config can be given: those of sections in
    `set={"train.epochs": 1}`, others also by themselves (`backbone=…`, `members=[…]`), and `id`,
    `text` and `target` without their section. Without `sample`, the submission has test's ids and
    the targets.

    Raises UserError for keys that do not fit, and for a DataFrame that differs from the one that a
    run of this name was made with.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        train: pd.DataFrame | None = None,
        test: pd.DataFrame | None = None,
        sample: pd.DataFrame | None = None,
        name: str | None = None,
        folder: str | Path | None = None,
        set: Mapping[str, Any] | None = None,
        quiet: bool = False,
        **keys: Any,
    ) -> None:
        _refuse_workers()
        _show_log(quiet=quiet)
        values = {f"data.{key}" if key in OF_DATA else key: value for key, value in keys.items()}
        values |= set or {}
        if train is None and test is None and sample is None:
            places = {"run": name, "store": folder and str(Path(folder).expanduser().resolve())}
            values |= {key: value for key, value in places.items() if value}
            self.config: Config = config.load(path, values=values)
            return
        if path is not None:
            raise UserError(
                f"Run({str(path)!r}, train=…): give a config or DataFrames; to change a key of its "
                "section train, give set={'train.epochs': 1}"
            )
        frames = {"train": train, "test": test, "sample_submission": sample}
        self.config = _of_frames(frames, name or "mine", Path(folder or ".").expanduser(), values)

    def __repr__(self) -> str:
        made, members = self.config, len(self.config.resolve_members())
        place = made.path(made.store)
        return f"Run {made.run} in {place}: {made.task}, {made.metric}, {members} members"

    def train(
        self,
        poolers: str | Sequence[str] = "all",
        folds: str | int | Sequence[int] = "all",
        *,
        workers: int | str = 1,
        time_limit: float | str | None = None,
        overwrite: bool = False,
    ) -> pd.DataFrame:
        """Train the fold models that are not finished; returns the leaderboard.

        `workers` is a number of processes or "auto"; `time_limit` seconds or a text such as
        "8h30m", before which the training stops with all its work kept. Folds that are damaged or
        stale are refused, or with `overwrite` trained again. Raises UserError, at the end also for
        folds that failed.
        """
        limit = f"{time_limit:.3f}s" if isinstance(time_limit, int | float) else time_limit
        seconds = None if limit is None else config.parse_duration(limit)
        try:
            pipeline.train(
                self.config,
                poolers=_listed(poolers),
                folds=_listed(folds),
                overwrite=overwrite,
                workers=_workers(workers),
                time_limit=seconds,
            )
        except Stopped as stop:
            if stop.status:
                raise
            log.warning("%s", stop)
        return self.leaderboard()

    def leaderboard(self) -> pd.DataFrame:
        """A row per member, the best first: its score over all out-of-fold rows, NaN until all its
        folds are finished, the 95 % interval `low` to `high`, mean and sd over folds, seconds of
        training, and its weight once there is a blend.
        """
        return pipeline.leaderboard(self.config)

    def oof(self, *, members_from: str | Path | None = None) -> pd.DataFrame:
        """Id, fold, targets, and a column of out-of-fold predictions for each complete member.

        Where there are several outputs, a member has a column `<member>:<output>` for each.
        """
        return pipeline.oof(self.config, members_from=_path(members_from))

    def blend(
        self, members: Sequence[str] | None = None, *, members_from: str | Path | None = None
    ) -> BlendResult:
        """Fit blend weights and score them honestly, over all complete members or those named.

        The result has `weights`, `score`, and the text `report`. `members_from` is a folder of
        out-of-fold files of other tools.
        """
        named = [members] if isinstance(members, str) else members
        return pipeline.blend(self.config, members=named, members_from=_path(members_from))

    def predict(
        self, frame: pd.DataFrame, *, workers: int | str = 1, refit: bool = False
    ) -> pd.DataFrame:
        """The blend's predictions of any rows that have the columns which the models read.

        Rows and index are the frame's; columns are the id, if it is one, `pred_<output>` for each
        output, and where predictions become labels `label`, or `label_<target>` for each of
        several targets. Nothing is stored. With `refit`, members' models of all rows predict
        (`train(folds="refit")`) instead of those of the folds.
        """
        rows = _frame("frame", frame)
        return pipeline.predict(self.config, rows, workers=_workers(workers), refit=refit)

    def submit_file(
        self,
        *,
        members_from: str | Path | None = None,
        workers: int | str = 1,
        refit: bool = False,
    ) -> Path:
        """Write the submission of the blend; returns its path. `refit` is that of `predict`.

        Test predictions that an earlier call has stored are not computed again. `members_from` is
        the new place of the folder that was given to `blend`, if it has moved.
        """
        made, text = pipeline.write_submission(
            self.config,
            members_from=_path(members_from),
            workers=_workers(workers),
            refit=refit,
        )
        log.info("%s", text)
        return made


def _of_frames(
    frames: Mapping[str, pd.DataFrame | None], name: str, folder: Path, values: Mapping[str, Any]
) -> Config:
    """The config of a run on these DataFrames, which are written into its input folder."""
    from poolblend.competition.files import with_index_as_columns
    from poolblend.competition.sample import empty_sample
    from poolblend.store import keep_tables

    given = {
        key: with_index_as_columns(_frame(key, frame))
        for key, frame in frames.items()
        if frame is not None or key != "sample_submission"
    }
    inputs = folder.resolve() / "input" / name
    places = {f"data.{key}": f"{key}.parquet" for key in frames}
    places |= {"run": name, "store": str(folder.resolve()), "data.dir": str(inputs)}
    settings = config.of_values({**values, **places})
    if "sample_submission" not in given:
        given["sample_submission"] = empty_sample(given["test"], settings.data)
    keep_tables({inputs / f"{key}.parquet": frame for key, frame in given.items()})
    return settings


def _frame(name: str, frame: object) -> Any:
    """The argument, a DataFrame; UserError for anything else."""
    import pandas as pd

    if isinstance(frame, pd.DataFrame):
        return frame
    found = "nothing" if frame is None else type(frame).__name__
    raise UserError(
        f"{name}: expected a DataFrame of pandas, got {found}; a config names tables by their files"
    )


def _listed(names: str | int | Sequence[Any]) -> str:
    """As a command's flag has it: a comma list."""
    return ",".join(map(str, [names] if isinstance(names, str | int) else names))


def _path(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _workers(workers: int | str) -> config.Workers:
    parsed = config.parse_workers(str(workers))
    prepare(parsed)
    return parsed


def _show_log(*, quiet: bool) -> None:
    """Show the log on stdout, unless the program has its own handlers."""
    set_up(quiet=quiet)
    # Of tqdm in a notebook without ipywidgets, which are not needed.
    warnings.filterwarnings("ignore", "IProgress not found")
    package = logging.getLogger("poolblend")
    if not package.hasHandlers():
        package.addHandler(AboveBars(sys.stdout))


def _refuse_workers() -> None:
    """A worker imports the program's main module, which must not start everything again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "a worker process has run this script from its start; put all but its imports and "
            "functions below `if __name__ == '__main__':`"
        )
