"""The archiver: from Redis Streams into files that last; acknowledged when durable."""
