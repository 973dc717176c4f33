"""Bounded queues: one promise, several backends."""
