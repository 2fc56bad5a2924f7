"""Which release this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed version; a checkout on the path that nobody installed has none."""
    try:
        return version("jml-orchestrator")
    except PackageNotFoundError:
        return "0+unknown"
