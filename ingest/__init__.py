"""The collector: from the exchange's sockets into Redis Streams, verbatim, stamped first, kept until durable."""
