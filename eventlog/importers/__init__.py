"""Brings what other tools wrote into logs."""
