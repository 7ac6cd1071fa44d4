"""State: one module per table, each a set of functions over a transaction; `engine.py` alone knows the database."""
