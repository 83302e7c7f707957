"""Doctor: test what a run needs on this machine: devices, memory, disk, tables, backbones.

  poolblend doctor --config configs/mine.yaml

Each line names what was tested and, where it fails, what to do; exit status 2 then.
"""

from collections.abc import Sequence

from poolblend import config, pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Test this machine with these arguments."""
    parser = command_line.parser("doctor", __doc__)
    args = command_line.parse(parser, arguments)
    pipeline.doctor(config.load(args.config, args.set, seed=args.seed))
