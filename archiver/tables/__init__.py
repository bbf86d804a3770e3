"""Parquet: frames as typed columns without loss, and back.

What a frame is says `common.frame`; which columns a channel has, `common.columns`.
"""

from archiver.tables.encoding import Encoded, encode, payload_values
from archiver.tables.files import read, write, write_day

__all__ = ["Encoded", "encode", "payload_values", "read", "write", "write_day"]
