"""The rooms of the `csv` sink."""
