"""Kill runs, let the same command go on, and compare all that is left with runs never stopped."""

import random
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig import looking, runs
from rig.children import Child, answer, failure
from rig.operations import Operations

SOON = 1.0  # seconds
KINDS = ("lost", "corrupt", "differing", "leftover", "failed")


class Tally:
    """What happened, and what was wrong."""

    def __init__(self):
        self.kills, self.runs = Counter(), 0
        self.wrong = {kind: [] for kind in KINDS}

    def add(self, found, when):
        for kind, what in found.items():
            self.wrong[kind] += [f"{when}: {each}" for each in what]
            for each in what:
                print(f"\n{kind}: {when}: {each}", flush=True)

    @property
    def counted(self):
        return self.kills.total() - self.kills[runs.STARTING]

    @property
    def clean(self):
        return not any(self.wrong.values())

    def __str__(self):
        rows = [*self.kills.most_common(), ("kills", self.kills.total()), ("runs", self.runs)]
        rows += [(kind, len(what)) for kind, what in self.wrong.items()]
        return "\n".join(f"{name:<24}{count:>6}" for name, count in rows)


@dataclass
class Scene:
    """A command to be killed: `work` on the config at `path`, in a store of its own.

    `begun` is a folder that the store is a copy of at first, `chosen` are the work's arguments;
    `before` is what each process does to itself first, such as planting a fault.
    """

    name: str
    work: Any
    path: Path
    place: Path
    begun: Path | None = None
    sets: tuple[str, ...] = ()
    chosen: dict[str, Any] = field(default_factory=dict)
    before: Any = None

    def __post_init__(self):
        self.place.mkdir(parents=True, exist_ok=True)
        self.store, self.log = self.place / "store", self.place / "log.txt"
        self.sets = (*self.sets, f"store={self.store}")

    def reset(self):
        shutil.rmtree(self.store, ignore_errors=True)
        if self.begun is not None:
            shutil.copytree(self.begun, self.store)

    def start(self, before=None, check=None):
        """A child at the command, which looks at the store before and after where `check` says."""
        given = self.work, self.path, self.sets, self.chosen, before or self.before, check
        return Child(runs.run, *given, log=self.log)

    def finish(self):
        """A child that has done the command from the beginning, uninterrupted."""
        self.reset()
        child = self.start()
        if child.wait():
            raise failure(self.name, self.log)
        return child

    def know(self):
        """Describe what was there at first, and what an uninterrupted run has made of it."""
        self.right = self.describe()
        self.reset()
        self.old = self.describe()

    def describe(self):
        """Digests of what the store holds now."""
        return answer(looking.describe, self.path, self.sets, log=self.log)


def random_kills(scene, kills, seed, report=lambda tally: None):
    """Kill runs at random moments until there were as many kills, and finish the last one.

    Those of a process that was still starting do not count.
    """
    chance, tally = random.Random(seed), Tally()
    whole = scene.finish()
    scene.know()
    marks = {tuple(what[1]): at for at, what in whole.told if what[0] == "finished"}
    seconds = whole.told[-1][0]
    start = next(at for at, what in whole.told if what[0] == "phase")
    slow = 1.0
    while tally.counted < kills:
        scene.reset()
        finished, status, number = [], -signal.SIGKILL, 0
        while status == -signal.SIGKILL:
            number += 1
            left = seconds - max([start, *(marks[paths] for paths in finished)])
            child = scene.start(check=(scene.right, scene.old, sum(finished, ())))
            child.listen(until="found")
            # Soon, or any time; a little more than is left, so that some come to their end.
            delay = slow * chance.uniform(start / 2, start + chance.choice([SOON, 1.2 * left]))
            ended = child.listen(delay if tally.counted < kills else None)
            status = child.wait() if ended else child.kill()
            _judge(tally, child, status, finished, f"run {tally.runs + 1}, process {number}")
            if status == -signal.SIGKILL:
                tally.kills[_phase(child)] += 1
            # The machine may have become slower or quicker than at the uninterrupted run.
            too_early = status == -signal.SIGKILL and _phase(child) == runs.STARTING
            slow = min(20.0, slow * 1.5) if too_early else max(0.1, slow / 1.1)
        tally.runs += 1
        report(tally)
    return tally


def _judge(tally, child, status, finished, when):
    """Tally what was wrong with this process, and add what it has finished."""
    again = []
    for _, what in child.told:
        if what[0] == "found":
            tally.add(what[1], when)
        elif what[0] == "finished" and tuple(what[1]) not in finished:
            finished.append(tuple(what[1]))
        elif what[0] == "finished" and "card.json" in what[1][0]:
            again.append(f"{what[1]} was made twice")
    failed = [] if status in (0, -signal.SIGKILL) else [f"exit status {status}"]
    tally.add({"lost": again, "failed": failed}, when)


def _phase(child):
    phases = [what[1] for _, what in child.told if what[0] == "phase"]
    return phases[-1] if phases else runs.STARTING


def operations(scene):
    """(kind, pattern of the path, phase) of each operation of the uninterrupted command."""
    scene.reset()
    child = scene.start(counting(scene))
    if child.wait():
        raise RuntimeError(f"{scene.name} failed: see {scene.log}")
    scene.know()
    return [what[1:] for _, what in child.told if what[0] == "operation"]


def counting(scene, at=None, torn=False):
    return Within(scene.before, Operations(scene.store, at, torn))


class Within:
    """A fault that is planted, then operations that are counted."""

    def __init__(self, fault, counted):
        self.fault, self.counted = fault, counted

    def __call__(self, narrator):
        if self.fault is not None:
            self.fault(narrator)
        self.counted(narrator)

    def end(self):
        self.counted.end()


def kills_at_every(scene, wanted=lambda operation: True, report=lambda tally: None):
    """Kill the command right before each operation, within each write, and after the last one."""
    tally, done = Tally(), operations(scene)
    moments = [(n, torn) for n, each in enumerate(done) if wanted(each) for torn in _moments(each)]
    for n, torn in [*moments, (len(done), False)]:
        kind, pattern, phase = done[n] if n < len(done) else ("end", "", runs.BETWEEN)
        when = f"{scene.name}, {'within' if torn else 'before'} {n} ({kind} {pattern}, {phase})"
        scene.reset()
        finished = []
        child = scene.start(counting(scene, n, torn))
        if child.wait() == -signal.SIGKILL:
            tally.kills["within a write" if torn else kind] += 1
        else:
            tally.add({"failed": [f"not killed: {child.process.exitcode}"]}, when)
        _judge(tally, child, 0, finished, when)
        child = scene.start(check=(scene.right, scene.old, sum(finished, ())))
        _judge(tally, child, child.wait(), finished, when)
        tally.runs += 1
        report(tally)
    return tally


def _moments(operation):
    return (False, True) if operation[0] == "fsync" else (False,)
