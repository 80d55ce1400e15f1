"""What all tests share: the network lab is skipped, with the reason, where it cannot run."""

import os
import shutil

import pytest

_PACKAGES = {"ip": "iproute2", "nft": "nftables", "tcpdump": "tcpdump"}


def _missing() -> str | None:
    """Return what keeps the lab from running here, and what to do about it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root (network namespaces): run the tests as root on Linux"
    absent = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install {' '.join(absent)}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the lab where it cannot run, or refuse to start when the environment says it must run."""
    reason = _missing()
    if reason is None:
        return
    if os.environ.get("PODFENCE_REQUIRE_LAB"):
        raise pytest.UsageError(f"PODFENCE_REQUIRE_LAB is set, but the network lab {reason}")
    for item in items:
        if "lab" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"the network lab {reason}"))
