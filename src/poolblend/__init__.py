"""poolblend: from a text competition's CSVs to a blended submission, one pooling type per model."""

__version__ = "0.1.0"
