"""Runs network-config-analyzer over many cases in one process: each folder given holds `topology.yaml` and `policies.yaml`.

Prints one JSON object per case: how many policies it read, and its connectivity map as lines.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from nca.CoreDS.Peer import BasePeerSet
from nca.NetworkConfig.NetworkConfigQueryRunner import NetworkConfigQueryRunner
from nca.NetworkConfig.ResourcesHandler import ResourcesHandler
from nca.Utils.OutputConfiguration import OutputConfiguration


def run(case: Path) -> dict[str, object]:
    """Return what the analyzer makes of one case."""
    BasePeerSet.reset()
    topology = str(case / "topology.yaml")
    settings = {"outputFormat": "txt_no_fw_rules", "outputEndpoints": "pods", "subset": {}, "explain": []}
    told, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong):
        config = ResourcesHandler().get_network_config(
            [str(case / "policies.yaml")], [topology], [topology], None, save_flag=False
        )
        output = OutputConfiguration({**settings, "outputPath": None, "simplifyGraph": False, "prURL": None})
        NetworkConfigQueryRunner("connectivityMap", [config], None, output).run_query()
    return {
        "policies": len(config.policies_container.policies),
        "lines": told.getvalue().splitlines(),
        "stderr": wrong.getvalue(),
    }


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        sys.stdout.write(json.dumps(run(Path(argument))) + "\n")
