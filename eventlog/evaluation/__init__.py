"""Benchmarks, models and judges: each answer an event, so that a killed evaluation goes on."""
