"""Lays a policy set out as a folder: one file an object, a kustomization, the evidence beside them."""

from pathlib import Path

from generator.evidence import evidence
from generator.policy import PolicySet
from generator.targets import target_named
from generator.yaml import dump
from learner.patterns import Learned
from recorder.folders import appearing


def render(policyset: PolicySet, learned: Learned, target: str = "kubernetes") -> dict[str, str]:
    """Return the text of each file by its path in the folder, paths sorted; the same input gives the same bytes.

    Raises InputError where the target cannot express what the policies hold.
    """
    dialect = target_named(target)
    paths = {(policy.namespace, policy.name): f"{policy.namespace}/{policy.name}.yaml" for policy in policyset.policies}
    files = {paths[policy.namespace, policy.name]: dump(dialect.manifest(policy)) for policy in policyset.policies}
    directions = {policy.namespace: policy.directions for policy in policyset.policies}
    last = {
        f"{namespace}/default-deny.yaml": dump(dialect.default_deny(namespace, directions[namespace]))
        for namespace in policyset.default_deny
    }
    beside = {
        "kustomization.yaml": _kustomization([*sorted(files), *sorted(last)]),
        ".podfence/evidence.json": evidence(policyset, learned, target, paths),
    }
    return dict(sorted((files | last | beside).items()))


def write(policyset: PolicySet, learned: Learned, target: str, out: Path) -> None:
    """Write the files of `render` into a folder that does not exist yet or is empty.

    The folder appears whole or not at all. Raises OutputError when it is not empty or cannot be written.
    """
    files = render(policyset, learned, target)
    with appearing(out) as folder:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")


def _kustomization(resources: list[str]) -> str:
    """Return a kustomization that keeps its order, in which default-denies come last.

    Without `sortOptions`, kustomize sorts by name and puts them first
    (https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/sortoptions).
    """
    return dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "sortOptions": {"order": "fifo"},
            "resources": resources,
        }
    )
