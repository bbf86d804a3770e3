"""Comes with the analyzer: a process that turns Parquet into indicators, alerts and a report every 15 minutes."""
