"""`blend.py`: OOF predictions to a blend card; its tables, pictures and report."""
