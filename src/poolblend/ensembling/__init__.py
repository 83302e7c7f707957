"""Arrays in, weights out: the OOF matrix, blend fitters, honest scores. Never torch."""
