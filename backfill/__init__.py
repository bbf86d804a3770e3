"""Comes with the backfill: a command that fetches history from the archive site and REST, writes Parquet, and ends."""
