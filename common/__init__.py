"""What two services need. Imports no service."""
