"""What the competition's CSV files say: tables, tasks, metrics, folds, submissions. Never torch."""
