"""The rooms of the `sqlite` sink."""
