"""The archiver: from Redis Streams into files that last; the position moves when they are durable."""
