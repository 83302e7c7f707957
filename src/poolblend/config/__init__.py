"""The settings of a run. Only `config`, `pipeline` and the scripts see a `Config`.

A competition's YAML holds what differs from the defaults in `sections.py` and `settings.py`, where
every key is documented.
"""

from poolblend.config.duration import parse_duration
from poolblend.config.reading import load
from poolblend.config.settings import ROOT, Config, Member, derive_seed

__all__ = ["ROOT", "Config", "Member", "derive_seed", "load", "parse_duration"]
