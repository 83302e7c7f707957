"""`train.py`: folds to fold models and OOF predictions; and what it tells without training."""
