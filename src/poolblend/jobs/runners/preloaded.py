"""All that a worker imports, for the server that workers are forked from."""

import gc
from importlib import import_module

for name in ("poolblend.jobs.runners.training", "poolblend.jobs.runners.prediction", "tqdm.auto"):
    import_module(name)

# Each fold collects garbage; what was imported is none, and its pages stay shared.
gc.collect()
gc.freeze()
