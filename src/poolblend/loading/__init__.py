"""What a config names, read and checked: tables, frozen folds, texts as tokens, datasets."""
