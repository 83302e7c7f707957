"""All that a run imports, for the process that children are forked from."""

import gc
from importlib import import_module

for name in (
    "optuna.samplers",
    "pyarrow.parquet",
    "safetensors.torch",
    "transformers.models.bert.modeling_bert",
    "poolblend.pipeline.blending",
    "poolblend.doctor.artefacts",
    "poolblend.pipeline.inference",
    "poolblend.pipeline.training",
    "rig.looking",
    "rig.runs",
):
    import_module(name)

# Each fold collects garbage; what was imported is none.
gc.collect()
gc.freeze()
