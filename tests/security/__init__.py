"""What is on disk: who may read it, what may lead out of it, how it is shown, and what it must not hold."""
