"""Units of work: what one needs, whether the store holds its result, and doing it."""
