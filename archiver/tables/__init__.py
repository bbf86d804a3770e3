"""Parquet: frames as typed columns without loss, and back.

What a frame is says `common.frame`; which columns a channel has, `common.columns`.
"""

from archiver.tables.encoding import Encoded, encode, encode_plain, payload_values
from archiver.tables.files import read, write, write_day, write_plain

__all__ = ["Encoded", "encode", "encode_plain", "payload_values", "read", "write", "write_day", "write_plain"]
