"""Interfaces of other trackers, over the same log."""
