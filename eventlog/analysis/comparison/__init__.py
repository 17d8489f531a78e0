"""Runs side by side: differences of params, lineage and results; gates for CI."""
