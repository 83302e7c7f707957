"""The OOF matrix, blenders, honest scores: arrays in, weights out. Does not import torch.

Shape suffixes in this package: M members, N rows, K outputs, R bootstrap resamples.
"""
