"""Where jobs run: a queue, and pools that do its orders in this process or in others."""

from poolblend.jobs.runners.prediction import PredictWork, predict_all
from poolblend.jobs.runners.runner import Runner

__all__ = ["PredictWork", "Runner", "predict_all"]
