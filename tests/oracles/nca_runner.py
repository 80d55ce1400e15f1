"""Runs network-config-analyzer over cases in one process: a JSON object with `topology` and `policies` (YAML) a line.

Answers each with a JSON object: `policies` and `pods`, how many it read, `lines`, its connectivity map, and `complaints`, what
it wrote to standard error meanwhile.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

COMPLAINTS = io.StringIO()
sys.stderr = COMPLAINTS  # its modules keep the stream that they find when they are imported

from nca.CoreDS.Peer import BasePeerSet, Pod  # noqa: E402
from nca.NetworkConfig.NetworkConfigQueryRunner import NetworkConfigQueryRunner  # noqa: E402
from nca.NetworkConfig.ResourcesHandler import ResourcesHandler  # noqa: E402
from nca.Utils.OutputConfiguration import OutputConfiguration  # noqa: E402

SETTINGS: dict[str, Any] = {
    "outputFormat": "txt_no_fw_rules",
    "outputEndpoints": "pods",
    "subset": {},
    "explain": [],
    "outputPath": None,
    "simplifyGraph": False,
    "prURL": None,
    "excludeIPv6Range": False,
}


def answer(question: dict[str, str], folder: Path) -> dict[str, Any]:
    """Return what the analyzer makes of one case."""
    BasePeerSet.reset()
    COMPLAINTS.seek(0)
    COMPLAINTS.truncate()
    topology, policies = folder / "topology.yaml", folder / "policies.yaml"
    topology.write_text(question["topology"])
    policies.write_text(question["policies"])
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        config = ResourcesHandler().get_network_config(
            [str(policies)], [str(topology)], [str(topology)], None, save_flag=False
        )
        NetworkConfigQueryRunner("connectivityMap", [config], None, OutputConfiguration(SETTINGS)).run_query()
    return {
        "policies": len(config.policies_container.policies),
        "pods": sum(type(peer) is Pod for peer in config.peer_container.peer_set),
        "lines": told.getvalue().splitlines(),
        "complaints": COMPLAINTS.getvalue().splitlines(),
    }


def main() -> None:
    """Answer each line."""
    with tempfile.TemporaryDirectory(prefix="podfence-nca-") as folder:
        for line in sys.stdin:
            try:
                found = answer(json.loads(line), Path(folder))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the one who asked hears of it
                found = {"error": f"{type(error).__name__}: {error}", "notes": COMPLAINTS.getvalue().splitlines()}
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
