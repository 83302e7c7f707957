"""`poolblend submit`: hand a bundle, or a submission, over to Kaggle's own command-line tool."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from poolblend.cards.bundle import HandedOver
from poolblend.errors import UserError
from poolblend.pipeline.bundling import OWNER, check_names, metadata
from poolblend.store.bundle import Bundle

INSTALL = "pip install kaggle six"  # six: the tool's version 2.2.5 needs it and does not say so
SUBMISSION = "submission.csv"
UNKNOWN = "VERSION"  # in a dry run
AGAIN = "run the same command again to go on"
# Where the tool finds who you are: it alone reads them.
KEYS = ("KAGGLE_API_TOKEN", "KAGGLE_KEY")
KEY_FILES = ("kaggle.json", "access_token", "credentials.json")
SIGN_IN = "sign in with `kaggle auth login`, or see the tool's page on API credentials"


def submit(
    what: str | Path,
    *,
    owner: str | None = None,
    competition: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> None:
    """Hand over a bundle's folder step by step, or a submission's CSV at once.

    A bundle's dataset is uploaded, its notebook is pushed, and the version that has run is
    submitted. Each call goes on as far as Kaggle is ready, and prints what comes next. With
    `dry_run`, print the commands and what is missing for them. Raises UserError for what is
    missing, and for what the tool refuses.
    """
    path = Path(what).expanduser()
    check_names(owner, competition)
    if path.is_file():
        run = _of_file(path, competition, message)
    else:
        run = _of_bundle(Bundle(path), owner, competition, message)
    if dry_run:
        print("\n".join(shlex.join(step) for step in run.commands))
        for each in run.missing:
            print(f"missing: {each}")
        return
    if run.missing:
        raise UserError(f"submit needs {'; '.join(run.missing)}")
    run.go_on()


class _Run(NamedTuple):
    """All commands in order, what is missing for them, and the function that does them."""

    commands: list[list[str]]
    missing: list[str]
    go_on: Callable[[], None]


def _of_file(path: Path, competition: str | None, message: str | None) -> _Run:
    command = [*_submit(competition, message or f"poolblend: {path.name}"), "-f", str(path)]
    missing = [] if competition else ["the competition (--competition SLUG)"]
    return _Run([command], [*missing, *_lacking()], lambda: print(_kaggle(command)))


def _of_bundle(
    bundle: Bundle, owner: str | None, competition: str | None, message: str | None
) -> _Run:
    card, (its_owner, its_competition) = bundle.card(), bundle.addresses()
    owner, competition = owner or its_owner, competition or its_competition
    check_names(owner, competition)  # which the metadata's are, too, before they become arguments
    named = None if owner == OWNER else owner
    missing = [] if named else ["your name at Kaggle (--owner NAME)"]
    missing += [] if competition else ["the competition (--competition SLUG)"]
    handing = _Handing(bundle, named, competition, message or f"poolblend: {card.run}")
    commands = [handing.upload(), handing.push, handing.submit(UNKNOWN)]
    return _Run(commands, [*missing, *_lacking()], handing.go_on)


class _Handing:
    """The steps of a bundle, each begun where the last command ended."""

    def __init__(
        self, bundle: Bundle, owner: str | None, competition: str | None, message: str
    ) -> None:
        self.bundle, self.competition, self.message = bundle, competition, message
        self.owner, self.run = owner, bundle.card().run
        self.dataset, self.kernel = (each["id"] for each in metadata(self.run, owner, competition))
        self.state = bundle.handed_over()
        self.push = ["kaggle", "kernels", "push", "-p", str(bundle.notebook)]

    def upload(self) -> list[str]:
        """The command for the dataset: a new one, or a version of the one that there is."""
        return self._upload(new=self.state.dataset is None)

    def submit(self, version: int | str) -> list[str]:
        by = ["-k", self.kernel, "-v", str(version), "-f", SUBMISSION]
        return [*_submit(self.competition, self.message), *by]

    def go_on(self) -> None:
        self.bundle.write_metadata(*metadata(self.run, self.owner, self.competition))
        for step in (self._upload_dataset, self._push_notebook, self._submit_version):
            if not step():
                print(AGAIN)
                return

    def _upload(self, *, new: bool) -> list[str]:
        # Without --dir-mode, the tool leaves folders out.
        how = ["-p", str(self.bundle.dataset), "--dir-mode", "zip"]
        kind = ["create"] if new else ["version", "-m", self.message]
        return ["kaggle", "datasets", *kind, *how]

    def _upload_dataset(self) -> bool:
        """Whether Kaggle has the bundle and its notebooks can read it."""
        now = self.bundle.card().fingerprint()
        if self.state.dataset != now:
            try:
                print(_kaggle(self.upload()))
            except _RefusedError as refused:
                if "already in use" not in str(refused):  # the dataset of an earlier bundle
                    raise
                print(_kaggle(self._upload(new=False)))
            self._note(dataset=now)
        status = self._status("datasets", self.dataset)
        if "ready" in status.lower():
            return True
        print(f"dataset {self.dataset}: {status}; it takes minutes until notebooks can read it")
        return False

    def _push_notebook(self) -> bool:
        """Whether the pushed version has run to its end."""
        now = self.bundle.notebook_sha256() + str(self.state.dataset)
        if self.state.notebook != now:
            answer = _kaggle(self.push)
            print(answer)
            found = re.search(r"version (\d+) successfully pushed", answer)
            if found is None:
                raise UserError(f"kaggle kernels push named no version: {_line(answer)}")
            self._note(notebook=now, version=int(found[1]))
        status = self._status("kernels", self.kernel)
        if "complete" in status.lower():
            return True
        if re.search("error|cancel", status, re.IGNORECASE):
            self._note(notebook=None)
            raise UserError(
                f"version {self.state.version} of the notebook failed: {_line(status)}; its log: "
                f"kaggle kernels logs {self.kernel}; the same command pushes it again"
            )
        print(f"version {self.state.version} of the notebook is not done: {_line(status)}")
        return False

    def _submit_version(self) -> bool:
        version = self.state.version
        assert version is not None
        if self.state.submitted == version:
            print(f"version {version} of {self.kernel} has been submitted already")
            return True
        print(_kaggle(self.submit(version)))
        self._note(submitted=version)
        return True

    def _status(self, kind: str, address: str) -> str:
        """What the tool says of it, without the address: a run's name may hold "error"."""
        return _kaggle(["kaggle", kind, "status", address]).replace(address, "").strip()

    def _note(self, **fields: str | int | None) -> None:
        self.state = HandedOver(**{**self.state.model_dump(), **fields})
        self.bundle.note(self.state)


def _submit(competition: str | None, message: str) -> list[str]:
    return ["kaggle", "competitions", "submit", competition or "COMPETITION", "-m", message]


def _lacking() -> list[str]:
    """What the tool lacks here: itself, or your key (which it alone reads)."""
    missing = []
    if shutil.which("kaggle") is None:
        missing.append(f"Kaggle's command-line tool ({INSTALL})")
    places = [Path.home() / ".kaggle", Path.home() / ".config" / "kaggle"]
    if folder := os.environ.get("KAGGLE_CONFIG_DIR"):
        places = [Path(folder)]
    there = any((place / name).is_file() for place in places for name in KEY_FILES)
    if not there and not any(map(os.environ.get, KEYS)):
        missing.append(f"your API key ({SIGN_IN})")
    return missing


class _RefusedError(UserError):
    """The tool has refused a command."""


def _kaggle(command: list[str]) -> str:
    """Run the tool; what it prints. It may end with status 0 after an error, which it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "\n".join(filter(None, (done.stdout.strip(), done.stderr.strip())))
    wrong = re.search(r"^.*(?:(?:creation|push) error:|are not valid).*$", said, re.M)
    if done.returncode or wrong:
        reason = wrong[0] if wrong else _line(said)
        raise _RefusedError(f"{shlex.join(command)}: {reason or 'no message'}")
    return said


def _line(said: str) -> str:
    return said.strip().splitlines()[-1][:300] if said.strip() else ""
