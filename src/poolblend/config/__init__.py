"""The settings of a run. Only `config`, `pipeline` and the scripts see a `Config`.

A competition's YAML holds what differs from the defaults in `settings.py`,
`members.py`, and in the `options.py` of the rooms, where every key is documented.
"""

from poolblend.cards.member import AnyMember, Member, TfidfMember, derive_seed
from poolblend.config.duration import parse_duration
from poolblend.config.reading import load, of_values
from poolblend.config.settings import ROOT, SHIPPED, Config
from poolblend.config.workers import Cluster, OnCluster, Workers, parse_workers

__all__ = [
    "ROOT",
    "SHIPPED",
    "AnyMember",
    "Cluster",
    "Config",
    "Member",
    "OnCluster",
    "TfidfMember",
    "Workers",
    "derive_seed",
    "load",
    "of_values",
    "parse_duration",
    "parse_workers",
]
