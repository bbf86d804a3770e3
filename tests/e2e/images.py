"""The images that the tests' projects run. Their tag is a digest of what they are built from, so that no build moves
it under a project that runs: neither another worker's, nor another clone's with other code, nor a person's.

`python -m tests.e2e.images` builds them; a project does too where they are missing. Whoever comes second waits.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "compose.yaml", ROOT / "compose.sim.yaml")
BUILD_S = 900.0
LABEL = "maserver.test"
KEPT = "168h"
"""After a week the images of code that is gone are removed."""

_IMAGES = dict.fromkeys(("init", "ingest", "archiver", "gate"), "maserver") | {"exchange": "maserver-sim"}
_BUILT = ("init", "exchange")
"""The services that say how their image is built."""


@cache
def tag() -> str:
    """A digest of the Dockerfile and of all that `.dockerignore` lets into the build."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted({ROOT / "Dockerfile", ROOT / ".dockerignore", *FILES, *_context()}):
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\0".encode() + path.read_bytes())
    return f"test-{digest.hexdigest()}"


def _context() -> Iterator[Path]:
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            let_in = ROOT / line[1:]
            found = let_in.rglob("*") if let_in.is_dir() else [let_in]
            yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def named() -> dict[str, dict[str, Any]]:
    """What a Compose file has to say of each service so that it runs the test's images."""
    services: dict[str, dict[str, Any]] = {name: {"image": f"{image}:{tag()}"} for name, image in _IMAGES.items()}
    for name in _BUILT:
        services[name]["build"] = {"labels": {LABEL: ""}}
    return services


def build() -> None:
    """Builds what is missing; meanwhile nobody else does."""
    with (Path(tempfile.gettempdir()) / f"maserver-images-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all(_is_there(f"{image}:{tag()}") for image in set(_IMAGES.values())):
            return
        files = [word for file in (*FILES, "-") for word in ("-f", str(file))]
        _docker("compose", *files, "build", *_BUILT, given=json.dumps({"services": named()}))
        _docker("image", "prune", "--all", "--force", "--filter", f"label={LABEL}", "--filter", f"until={KEPT}")


def _is_there(image: str) -> bool:
    return bool(_docker("image", "ls", "--quiet", image))


def _docker(*words: str, given: str = "") -> str:
    command = ["docker", *words]
    run = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert run.returncode == 0, f"docker {words}: {run.returncode}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    return run.stdout


if __name__ == "__main__":
    build()
    print(*sorted({service["image"] for service in named().values()}), sep="\n")
