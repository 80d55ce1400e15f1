"""A small cluster to ask about: pods with labels, two namespaces with labels, and one question."""

import textwrap
from typing import Any

from deploy.policies import engines_for
from deploy.semantics.ends import ContainerPort, Endpoint
from deploy.semantics.policyset import PolicySet
from deploy.semantics.reading import manifests
from deploy.semantics.reading.fields import told
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import Verdict, judge_half
from recorder.errors import InputError

NAMESPACES = {"shop": {"team": "red"}, "mon": {"team": "blue"}, "bare": {}}


def pod(name: str, labels: dict[str, str] | None = None, **columns: Any) -> Endpoint:
    """Return a pod `namespace/name`, labelled `app: name` unless labels are given."""
    namespace, short = name.split("/")
    given = {"app": short} if labels is None else labels
    columns["ports"] = tuple(ContainerPort(*port) for port in columns.get("ports", ()))
    return Endpoint(
        kind="pod",
        name=name,
        namespace=namespace,
        labels=tuple(sorted(given.items())),
        namespace_labels=tuple(sorted(NAMESPACES[namespace].items())),
        **{"ip": "10.0.0.9", "node": "node-a"} | columns,
    )


def outside(ip: str) -> Endpoint:
    """Return an address outside the cluster."""
    return Endpoint("external", ip=ip)


WEB, DB, PROM = pod("shop/web"), pod("shop/db", ports=[("pg", 5432, "tcp")]), pod("mon/prom")


def policies(text: str) -> PolicySet:
    """Read policies from a text; raise what `manifests.read` raises."""
    found, problems = manifests.parse(textwrap.dedent(text), "p.yaml")
    if problems:
        raise InputError(told(problems))
    return PolicySet.of(found)


def kubernetes(spec: str, name: str = "p", namespace: str = "shop") -> str:
    """Return a NetworkPolicy with this spec, as YAML."""
    body = textwrap.indent(textwrap.dedent(spec).strip(), "  ")
    head = f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}"
    return f"{head}\nspec:\n{body}\n---\n"


def calico(spec: str, name: str = "c", namespace: str = "shop") -> str:
    """Return a Calico NetworkPolicy with this spec, as YAML."""
    return kubernetes(spec, name, namespace).replace("networking.k8s.io/v1", "projectcalico.org/v3")


def ask(
    text: str,
    direction: str,
    source: Endpoint,
    destination: Endpoint,
    port: int | None = 80,
    protocol: str = "tcp",
    *,
    profile: str = "strict",
    icmp: tuple[int | None, int | None] = (None, None),
    staged: str = "enforced",
) -> Verdict:
    """Judge one half under policies given as YAML."""
    given = policies(text).enforced(staged)
    asked = Connection(protocol, port, *icmp)
    return judge_half(given, engines_for(profile, [given]), direction, source, destination, asked)


def ingress(text: str, source: Endpoint, port: int | None = 80, protocol: str = "tcp", **more: Any) -> str:
    """Return what happens to ingress of the database."""
    return ask(text, "ingress", source, DB, port, protocol, **more).outcome


def egress(text: str, destination: Endpoint, port: int | None = 80, protocol: str = "tcp", **more: Any) -> str:
    """Return what happens to egress of the web pod."""
    return ask(text, "egress", WEB, destination, port, protocol, **more).outcome
