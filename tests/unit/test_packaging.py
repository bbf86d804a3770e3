"""The files around the services agree with one another: settings, Compose, image, locks, versions."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import config
from common.version import VERSION

ROOT = Path(__file__).parents[2]
COMPOSE_OWN = {"data_dir", "state_dir", "reports_dir", "redis_url", "metrics_host"}
MIB = {"m": 1, "g": 1024}


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return read


def lock_file(name: str) -> set[tuple[str, str]]:
    """(package, version) of each line."""
    text = (ROOT / "requirements" / name).read_text()
    return set(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_compose_hands_on_every_setting() -> None:
    """Each setting can be set from outside the containers, but for those that are Compose's own and the ports."""
    environment = compose()["services"]["ingest"]["environment"]
    handed_on = {name for name, value in environment.items() if value is None}
    own = {config.variable(key) for key in COMPOSE_OWN}
    ports = {config.variable(key) for key in config.FIELDS if key.endswith("metrics_port")}
    assert handed_on - {*config.NO_SETTINGS} == set(config.variables()) - own - ports
    assert own <= environment.keys()


def test_the_health_checks_ask_the_default_ports() -> None:
    """A service's health check asks the port on which it serves."""
    for name in ("ingest", "archiver", "gate"):
        port = compose()["services"][name]["healthcheck"]["test"][-1]
        assert int(port) == config.FIELDS[f"{name}.metrics_port"].default


def test_memory_caps_fit_a_laptop() -> None:
    """All services together are capped at 4 GB, Redis' data at less than its cap."""
    caps = {name: service["mem_limit"] for name, service in compose()["services"].items()}
    assert sum(int(cap[:-1]) * MIB[cap[-1]] for cap in caps.values()) <= 4096
    data_mb = re.search(r"^maxmemory (\d+)mb$", (ROOT / "config/redis.conf").read_text(), re.MULTILINE)
    assert data_mb is not None
    assert int(data_mb[1]) <= 0.7 * 1024


def test_services_are_confined_and_can_be_scaled() -> None:
    """Each long-running service has no capabilities, a read-only root, no new privileges, and neither name nor port."""
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        assert not {"container_name", "ports", "privileged"} & service.keys(), name


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_locked_requirements_name_no_host(name: str) -> None:
    """The locks have a hash for each package, and no address of an index."""
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert len(re.findall(r"^[\w.-]+==.*\\\n +--hash=sha256:", text, re.MULTILINE)) == len(lock_file(name))


def test_the_locks_agree() -> None:
    """What runs is what was tested: each package of `run.txt` stands in `dev.txt` with the same version."""
    runs = lock_file("run.txt")
    assert runs
    assert runs <= lock_file("dev.txt")


def test_the_locks_cover_the_dependencies() -> None:
    """Each dependency of `pyproject.toml` is locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {name for name, _ in lock_file("run.txt")}
    assert {re.split(r"[<>=\[]", dependency)[0] for dependency in project["dependencies"]} <= locked


def test_one_version() -> None:
    """The project, the code, the image's label and its tag in Compose have one version."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert f'org.opencontainers.image.version="{VERSION}"' in (ROOT / "Dockerfile").read_text()
    assert compose()["services"]["ingest"]["image"] == f"maserver:{VERSION}"
    assert compose("compose.sim.yaml")["services"]["exchange"]["image"] == f"maserver-sim:{VERSION}"


def test_each_image_is_built_in_one_place() -> None:
    """One service says how an image is built, the others use it: else `up --build` builds it once for each of them."""
    services = [*compose()["services"].values(), *compose("compose.sim.yaml")["services"].values()]
    built = [service["image"] for service in services if "build" in service]
    assert sorted(built) == [f"maserver-sim:{VERSION}", f"maserver:{VERSION}"]
    assert "build" not in compose()["x-service"]


def test_the_image_builds_with_either_builder() -> None:
    """The Dockerfile uses nothing that only BuildKit knows, and ends as a normal user."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert not [line for line in lines if re.search(r"^# *syntax|--mount|--link|--chmod|<<", line)]
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]


def test_every_target_of_make_has_its_help() -> None:
    """Each target that a person calls says what it does."""
    makefile = (ROOT / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z]+):.* ## \S", makefile, re.MULTILINE))
    assert {"help", "venv", "run", "test", "lint", "format", "bench", "soak", "lock"} <= documented
