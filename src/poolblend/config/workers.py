"""Where a command's work is done: by how many processes of this machine, or by a cluster."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pydantic import Field

from poolblend.errors import UserError, quoted
from poolblend.options import Section

RAY, AUTO = "ray", "auto"


class Cluster(NamedTuple):
    """A Ray cluster: `ray://host:port`, `ray` for the one that Ray itself finds, or `auto`.

    Ray finds the cluster of RAY_ADDRESS, or one that runs on this machine; for `ray` it starts one
    on this machine where there is none, for `auto` this machine's own workers do the work then. At
    most `most` jobs are done at a time; None: as many as there is room for.
    """

    address: str
    most: int | None = None


Workers = int | Literal["auto"] | Cluster


class OnCluster(Section):
    """What each job takes of a cluster (`--on`)."""

    # Cores of a job, which are its threads; null: the cluster's, divided among the jobs.
    threads: int | None = Field(None, ge=1)
    gpus: float = Field(1.0, gt=0)  # of a cluster that has GPUs; 0.5: two jobs share one


def parse_workers(text: str | None, on: str | None = None) -> Workers:
    """The flags' values; without any, one process. UserError where they cannot be used."""
    number = None if text is None else _number(text)
    if on is None:
        return 1 if number is None else number
    if on not in (RAY, AUTO) and not re.fullmatch(r"ray://[^\s/]+:\d+", on):
        raise UserError(f"--on {quoted(on)}: expected ray, ray://host:port or auto")
    return Cluster(on, number if isinstance(number, int) else None)


def _number(text: str) -> int | Literal["auto"]:
    """`auto`, or a number of processes from 1."""
    written = text.strip().lower()
    if written == AUTO:
        return "auto"
    if not re.fullmatch(r"[1-9]\d{0,3}", written, re.ASCII):
        raise UserError(
            f"--workers {quoted(text)}: expected auto or a number of processes, from 1 to 9999"
        )
    return int(written)
