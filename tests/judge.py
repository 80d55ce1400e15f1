"""Asks network-config-analyzer, which shares no code with podfence, what a folder of policies allows.

It drops a file that it cannot read and calls everything allowed, so the policies it read are counted and its standard
error must be empty. `python judge.py TOPOLOGY POLICIES...` prints a report for each policy file.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

_LINE = re.compile(r"(\S+) => (\S+) : (.*)")


@dataclass(frozen=True)
class Verdicts:
    """What is allowed: (source, destination) to connections; None stands for all of them.

    Names are pods (`namespace/name`) or ranges of addresses (`first-last`).
    """

    policies: int
    allowed: Mapping[tuple[str, str], frozenset[tuple[str, int]] | None]

    def outside(self, pod: str, address: str, *, ingress: bool) -> frozenset[tuple[str, int]] | None:
        """Return what is allowed between a pod and an address outside the cluster."""
        found: set[tuple[str, int]] = set()
        for (source, destination), connections in self.allowed.items():
            inside, other = (destination, source) if ingress else (source, destination)
            if inside == pod and _covers(other, address):
                if connections is None:
                    return None
                found |= connections
        return frozenset(found)


def judge(folder: Path, topology: list[dict[str, Any]], sets: Mapping[str, Mapping[str, str]]) -> dict[str, Verdicts]:
    """Return the verdicts on each set of rendered files."""
    (folder / "topology.yaml").write_text(yaml.safe_dump_all(topology))
    for name, files in sets.items():
        texts = [text for path, text in files.items() if path.endswith(".yaml") and "/" in path]
        (folder / f"{name}.yaml").write_text("---\n".join(texts))
    run = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "topology.yaml", *(f"{name}.yaml" for name in sets)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == "", run.stderr
    reports = run.stdout.split("== ")[1:]
    return {name: _read(report) for name, report in zip(sets, reports, strict=True)}


def _read(report: str) -> Verdicts:
    number = re.search(r"^policies (\d+)$", report, re.MULTILINE)
    assert number, report
    allowed: dict[tuple[str, str], frozenset[tuple[str, int]] | None] = {}
    for match in filter(None, map(_LINE.fullmatch, report.splitlines())):
        source, destination, text = match.groups()
        for one in source.split(","):
            for other in destination.split(","):
                connections = _connections(text)
                known = allowed.get((one, other), frozenset())
                both = None if connections is None or known is None else known | connections
                allowed[one, other] = both
    return Verdicts(int(number[1]), allowed)


@cache
def _connections(text: str) -> frozenset[tuple[str, int]] | None:
    if text == "All connections":
        return None
    fields = dict(re.findall(r"(\w+):([^:{}]*?)(?=,\w+:|})", text))
    assert set(fields) <= {"protocols", "dst_ports", "icmp_type", "icmp_code"}, text
    protocols = fields["protocols"].replace(" ", "").split(",")
    values = fields.get("dst_ports") or fields.get("icmp_type") or "-1"
    numbers = [
        number
        for part in re.findall(r"-?\d+(?:-\d+)?", values)
        for first, last in [part.split("-") if "-" in part[1:] else (part, part)]
        for number in range(int(first), int(last) + 1)
    ]
    return frozenset((protocol.lower(), number) for protocol in protocols for number in numbers)


def _covers(ranges: str, address: str) -> bool:
    if "/" in ranges:
        return False
    first, _, last = ranges.partition("-")
    low, high, place = (ip_address(text) for text in (first, last or first, address))
    return low.version == place.version and int(low) <= int(place) <= int(high)


def _main(topology: str, *policies: str) -> int:
    from nca.nca_cli import nca_main
    from nca.NetworkConfig.ResourcesHandler import ResourcesHandler

    original = ResourcesHandler.get_network_config

    def counting(self: Any, *given: Any, **named: Any) -> Any:
        config = original(self, *given, **named)
        sys.stdout.write(f"policies {len(config.policies_container.policies)}\n")
        return config

    ResourcesHandler.get_network_config = counting
    code = 0
    for path in policies:
        sys.stdout.write(f"== {path}\n")
        flags = ["-n", topology, "-p", topology, "-o", "txt_no_fw_rules", "--output_endpoints", "pods", "--print_ipv6"]
        code = max(code, nca_main(["--connectivity", path, *flags]))
    return code


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
