"""The only training loop: batches, optimisers, fitting one fold, predicting any rows."""
