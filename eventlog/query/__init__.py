"""SQL over all runs."""
