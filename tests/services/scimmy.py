"""A SCIM server of another world, SCIMMY on Node: its packages are fetched once into a cache folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parent / "scimmy_server"
INSTALL_SECONDS = 240


def node_is_there() -> bool:
    """Whether this machine has Node and npm; `.ci/run` sees to it."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def _installed() -> Path:
    """The folder of the server with its packages beside it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jml-tests" / "scimmy"
    cache.mkdir(parents=True, exist_ok=True)
    package = (SOURCE / "package.json").read_text()
    stamp = cache / "installed.json"
    if not stamp.exists() or stamp.read_text() != package:
        (cache / "package.json").write_text(package)
        command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=cache, check=True, timeout=INSTALL_SECONDS)
        stamp.write_text(package)
    shutil.copy(SOURCE / "server.mjs", cache / "server.mjs")
    return cache


@contextmanager
def scimmy(token_env: str, token: str) -> Iterator[str]:
    """The server in a process of its own; yields its base URL."""
    folder = _installed()
    environ = {**os.environ, token_env: token}
    with subprocess.Popen(
        ["node", "server.mjs"], cwd=folder, stdout=subprocess.PIPE, env=environ, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line.startswith("listening on "), line
            yield line.removeprefix("listening on ") + "/scim/v2"
        finally:
            process.terminate()
            process.wait(15)
