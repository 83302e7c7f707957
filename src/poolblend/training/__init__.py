"""Train a model on one fold and predict any rows: batches, objectives, optimizers, recipes.

Shape suffixes in this package: B batch, T tokens, N rows, K outputs, L logits.
"""
