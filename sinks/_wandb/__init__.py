"""The rooms of the `wandb` sink; `sinks.wandb` says what it is."""
