"""Logs what a process prints."""
