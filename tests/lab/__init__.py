"""A small Kubernetes cluster made of network namespaces: real packets, the API's own objects, and the truth about both."""

from .cluster import Cluster
from .lab import Lab, Pod, Service
from .namespaces import LabError, Namespace, missing, remove_leftovers
from .network import Network, Node, Outside
from .objects import Port, ServicePort
from .traffic import Listener
from .truth import Attempt, Side, Truth

__all__ = [
    "Attempt",
    "Cluster",
    "Lab",
    "LabError",
    "Listener",
    "Namespace",
    "Network",
    "Node",
    "Outside",
    "Pod",
    "Port",
    "Service",
    "ServicePort",
    "Side",
    "Truth",
    "missing",
    "remove_leftovers",
]
