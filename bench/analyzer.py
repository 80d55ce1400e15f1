"""network-config-analyzer's connectivity map in process; its own module, so that its imports are not counted."""

import contextlib
import io
from pathlib import Path

from nca.CoreDS.Peer import BasePeerSet
from nca.NetworkConfig.NetworkConfigQueryRunner import NetworkConfigQueryRunner
from nca.NetworkConfig.ResourcesHandler import ResourcesHandler
from nca.Utils.OutputConfiguration import OutputConfiguration


def connectivity(folder: Path) -> int:
    """Map `policies.yaml` over `topology.yaml`; return how many pairs of different pods may talk, a line each."""
    BasePeerSet.reset()
    topology, told = str(folder / "topology.yaml"), io.StringIO()
    settings = {"outputFormat": "txt_no_fw_rules", "outputEndpoints": "pods", "subset": {}, "explain": []}
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
        config = ResourcesHandler().get_network_config(
            [str(folder / "policies.yaml")], [topology], [topology], None, save_flag=False
        )
        output = OutputConfiguration({**settings, "outputPath": None, "simplifyGraph": False, "prURL": None})
        NetworkConfigQueryRunner("connectivityMap", [config], None, output).run_query()
    return sum(" => " in line for line in told.getvalue().splitlines())
