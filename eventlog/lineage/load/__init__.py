"""Measures the machine, and a run's share of it, while the run goes on."""
