"""The model: backbone, pooler, head. Tensors in, tensors out. Does not import pandas or the config.

Shape suffixes in this package: B batch, T tokens, H hidden units, L layers (embeddings first).
"""
