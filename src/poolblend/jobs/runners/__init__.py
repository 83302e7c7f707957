"""Where jobs run: one file per way. Here stands which one the commands take."""

from poolblend.jobs.runners.inline import InlineRunner as Runner
from poolblend.jobs.runners.inline import predict_all

__all__ = ["Runner", "predict_all"]
