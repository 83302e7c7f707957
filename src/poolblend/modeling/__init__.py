"""Tensors in, tensors out: backbone, pooler, head. Never pandas, never the config."""
