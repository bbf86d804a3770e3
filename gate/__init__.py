"""The latency gate: a process that measures the latency to the exchange, and opens or closes each symbol by it."""
