"""The competition's tables, tasks, metrics, folds and submissions. Does not import torch.

Shape suffixes in this package: N rows, K model outputs.
"""
