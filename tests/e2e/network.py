"""A container's network, or only its name on it, is taken away around a step."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.project import Project


@contextmanager
def offline(project: Project, service: str) -> Iterator[None]:
    """The service's container reaches nobody and finds no name; its sockets stay, and nothing comes through them."""
    (container,) = project.containers(service)
    _network("disconnect", project, container)
    try:
        yield
    finally:
        _network("connect", project, container, "--alias", service)


@contextmanager
def nameless(project: Project, service: str) -> Iterator[None]:
    """Nobody finds the service by its name; who is connected stays so."""
    (container,) = project.containers(service)
    _network("disconnect", project, container)
    _network("connect", project, container)
    try:
        yield
    finally:
        _network("disconnect", project, container)
        _network("connect", project, container, "--alias", service)


def _network(verb: str, project: Project, container: str, *options: str) -> None:
    command = ["docker", "network", verb, *options, project.network, container]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
