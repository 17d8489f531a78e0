"""The rooms of the `mirror` sink; `sinks.mirror` says what it is."""
