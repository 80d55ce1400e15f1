"""Namespaces whose pods keep the cluster running: a wrong policy there takes down more than one application."""

from fnmatch import fnmatchcase

# Kubernetes' own, podfence's, then what enforces policies, then what applies them.
PROTECTED = (
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "podfence",
    "podfence-system",
    "antrea-*",
    "calico-*",
    "cilium*",
    "kube-flannel",
    "openshift-ovn-kubernetes",
    "openshift-sdn",
    "tigera-*",
    "argo-cd",
    "argocd",
    "cattle-fleet-*",
    "flux-system",
    "openshift-gitops*",
)


def is_protected(namespace: str) -> bool:
    """Tell whether a namespace gets no policy unless it is named."""
    return any(fnmatchcase(namespace, pattern) for pattern in PROTECTED)
