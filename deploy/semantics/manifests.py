"""Reads policies from files and folders; a policy that cannot be read or judged is an error, never absent.

Objects that are no policies are ignored. All broken rules are told at once, each with file, line and object.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.semantics import calico, kubernetes
from deploy.semantics.documents import Table, UnreadableError, documents
from deploy.semantics.fields import Field, Problem, Report
from deploy.semantics.rules import Policy
from recorder.errors import InputError

Source = str | os.PathLike[str]

_SUFFIXES = (".yaml", ".yml", ".json")
_METADATA = (
    *("name", "namespace", "labels", "annotations", "uid", "resourceVersion", "generation", "generateName"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers"),
    *("managedFields", "selfLink"),
)
_HARMLESS: dict[str, frozenset[str]] = {
    "networking.k8s.io": frozenset({"Ingress", "IngressClass", "IPAddress", "ServiceCIDR"}),
    "projectcalico.org": frozenset(
        {
            *("IPPool", "IPReservation", "IPAMConfiguration", "IPAMConfig", "BlockAffinity", "FelixConfiguration"),
            *("BGPConfiguration", "BGPPeer", "BGPFilter", "ClusterInformation", "KubeControllersConfiguration"),
            *("Node", "CalicoNodeStatus", "WorkloadEndpoint"),
        }
    ),
    "cilium.io": frozenset(
        {
            *("CiliumEndpoint", "CiliumEndpointSlice", "CiliumIdentity", "CiliumNode", "CiliumNodeConfig"),
            *("CiliumLoadBalancerIPPool", "CiliumL2AnnouncementPolicy", "CiliumBGPPeeringPolicy", "CiliumPodIPPool"),
            *("CiliumBGPClusterConfig", "CiliumBGPPeerConfig", "CiliumBGPAdvertisement", "CiliumBGPNodeConfig"),
        }
    ),
    "policy.networking.k8s.io": frozenset(),
}
"""Kinds of the policy API groups that say nothing about which pods may talk; any other kind there must be judged."""


def read(paths: Iterable[Source], *, namespace: str = "default") -> tuple[Policy, ...]:
    """Read policies from files, folders (recursively) and `-` (standard input), in the order given and by name.

    `namespace` is where an object goes that names none. In folders, `.podfence/`, hidden names and `kustomization.yaml` are
    skipped.

    Raises InputError with one line per broken rule.
    """
    found: list[Policy] = []
    problems: list[Problem] = []
    for path in paths:
        for name, text in _texts(path):
            policies, wrong = parse(text, name, namespace=namespace)
            found += policies
            problems += wrong
    _finish(found, problems)
    return tuple(found)


def judge_objects(objects: Sequence[tuple[str, dict[str, Any]]]) -> tuple[Policy, ...]:
    """Return the policies among API objects, each given with the name of where it comes from.

    Raises InputError as `read` does.
    """
    found: list[Policy] = []
    problems: list[Problem] = []
    for place, value in objects:
        policies, wrong = _object(value, place, 1, "default")
        found += policies
        problems += wrong
    _finish(found, problems)
    return tuple(found)


def parse(text: str, name: str, *, namespace: str = "default") -> tuple[list[Policy], list[Problem]]:
    """Return the policies in a text and every rule it breaks."""
    found: list[Policy] = []
    problems: list[Problem] = []
    try:
        for line, value in documents(text.replace("\t", " ") if name.endswith(".json") else text):
            policies, wrong = _object(value, name, line, namespace)
            found += policies
            problems += wrong
    except UnreadableError as error:
        problems.append(Problem(name, error.line, "", error.rule))
    return found, problems


def _texts(path: Source) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each file that a path stands for."""
    if os.fspath(path) == "-":
        yield "<stdin>", sys.stdin.read()
        return
    place = Path(path)
    if place.is_dir():
        files = list(_walk(place))
        if not files:
            raise InputError(f"{place}: holds no *.yaml, *.yml or *.json file")
    elif place.exists():
        files = [place]
    else:
        raise InputError(f"{place}: no such file or folder")
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 text") from error
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from error


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.suffix.lower() in _SUFFIXES and entry.stem.lower() != "kustomization":
            yield entry


def _object(value: Any, file: str, line: int, namespace: str) -> tuple[list[Policy], list[Problem]]:
    if isinstance(value, Table):
        line = value.line
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return [], [Problem(file, line, "", "no Kubernetes object: `kind` is missing")]
    if not isinstance(value.get("apiVersion"), str):
        return [], [Problem(file, line, value["kind"], "no Kubernetes object: `apiVersion` is missing")]
    kind, version = value["kind"], value["apiVersion"]
    if kind.endswith("List") and isinstance(value.get("items", []), list | None):
        found: list[Policy] = []
        problems: list[Problem] = []
        for item in value.get("items") or ():
            whole = item
            if kind != "List" and isinstance(item, dict):
                # Items of a typed list, such as NetworkPolicyList, need not repeat what they are.
                item.setdefault("apiVersion", version)
                item.setdefault("kind", kind.removesuffix("List"))
            policies, wrong = _object(whole, file, line, namespace)
            found += policies
            problems += wrong
        return found, problems
    report = Report(file, kind)
    if kind == "List":
        list(Field(value, "", line, report)["items"].items())
        return [], report.problems
    return _policy(value, kind, version, report, line, namespace)


def _policy(
    value: dict[str, Any], kind: str, version: str, report: Report, line: int, namespace: str
) -> tuple[list[Policy], list[Problem]]:
    group = version.partition("/")[0]
    group = "projectcalico.org" if group == "crd.projectcalico.org" else group
    if not _concerns(group, kind):
        return [], []
    root = Field(value, "", line, report)
    metadata = root["metadata"]
    name, given = metadata["name"].value, metadata["namespace"].value
    place = given if isinstance(given, str) and given else namespace
    report.object = f"{kind} {place}/{name or '?'}"
    if kind != "NetworkPolicy" or version not in (kubernetes.API_VERSION, *calico.API_VERSIONS):
        root.fail(f"podfence does not judge {version} {kind}")
        return [], report.problems
    if metadata.mapping():
        metadata.only(*_METADATA)
    if metadata["name"].text() == "" or name is None:
        metadata.fail("`name` is missing")
    metadata["namespace"].text()
    root.only("apiVersion", "kind", "metadata", "spec", "status")
    build = kubernetes.network_policy if version == kubernetes.API_VERSION else calico.network_policy
    policy = build(root, place, str(name))
    return [policy], report.problems


def _concerns(group: str, kind: str) -> bool:
    """Tell whether a kind may say which pods may talk: in a policy group, or by its name anywhere."""
    if group in _HARMLESS:
        return kind not in _HARMLESS[group]
    return kind.endswith("NetworkPolicy")


def _finish(found: list[Policy], problems: list[Problem]) -> None:
    """Raise what is wrong, objects that are given twice included."""
    first: dict[str, Policy] = {}
    for policy in found:
        other = first.setdefault(policy.title, policy)
        if other is not policy:
            rule = f"given twice, first in {other.file}:{other.line}"
            problems.append(Problem(policy.file, policy.line, policy.title, rule))
    if problems:
        raise InputError("\n".join(str(problem) for problem in sorted(set(problems))))
