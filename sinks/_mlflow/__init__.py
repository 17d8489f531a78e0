"""The rooms of the `mlflow` sink; `sinks.mlflow` says what it is."""
