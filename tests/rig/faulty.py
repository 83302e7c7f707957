"""Work that does something to its own worker process, for tests of what becomes of it."""

import os
import signal
from pathlib import Path

from poolblend.jobs.runners.training import TrainWork
from poolblend.training.fit import Fit


class FaultyWork(TrainWork):
    """In a worker, once it has taken `steps` steps of the fold called `name`, `act` happens.

    At most `times` times in all workers together: each leaves a file in `place`.
    """

    def __init__(self, *given, act, name, steps, times, place, **named):
        super().__init__(*given, **named)
        self.act, self.name, self.steps, self.times = act, name, steps, times
        self.place, self.doing = Path(place), None
        self.command = os.getpid()

    def __call__(self, task):
        self.doing = task.job.name
        return super().__call__(task)

    def enter(self, line):
        super().enter(line)
        whole, left = Fit._train_step, [self.steps]

        def step(fit, batches):
            whole(fit, batches)
            if self.doing == self.name:
                left[0] -= 1
                if left[0] == 0 and len(list(self.place.iterdir())) < self.times:
                    (self.place / str(os.getpid())).touch()
                    self.act(self)

        Fit._train_step = step


def die(work):
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(work):
    """The process of the command gets SIGINT."""
    os.kill(work.command, signal.SIGINT)


def terminate(work):
    os.kill(work.command, signal.SIGTERM)


def fail(work):
    raise RuntimeError("no luck")


def be_late(work):
    """This worker's time is up."""
    work.context.watch.end = 0.0
