"""Comes with the dashboard: a process that shows a web page of what is recorded, how old it is, and what is missing."""
