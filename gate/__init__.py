"""Comes with the latency gate: a process that measures the way to the exchange and opens or closes each symbol by it."""
