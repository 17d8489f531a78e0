"""Hooks for frameworks that call back."""
