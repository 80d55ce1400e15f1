"""Objects of Calico's API for tests: written as YAML, and read one by one with what is wrong with them."""

import textwrap

from deploy.semantics.reading import calico, kubernetes
from deploy.semantics.reading.documents import documents
from deploy.semantics.reading.fields import Field, Report
from deploy.semantics.rules import NetworkSet, Object, Policy, Tier


def resource(
    kind: str, spec: str, name: str = "c", namespace: str | None = "shop", *, stored: bool = False, metadata: str = ""
) -> str:
    """Return an object of Calico's API with this spec, as YAML; `stored`: as Calico keeps it in its own resources."""
    body = textwrap.indent(textwrap.dedent(spec).strip(), "  ")
    place = "" if kind in calico.CLUSTER_SCOPED else f", namespace: {namespace}"
    version = calico.API_VERSIONS[stored]
    head = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{place}{metadata}}}"
    return f"{head}\nspec:\n{body}\n---\n" if body else f"{head}\n---\n"


def everywhere(spec: str, name: str = "g") -> str:
    """Return a GlobalNetworkPolicy with this spec, as YAML."""
    return resource("GlobalNetworkPolicy", spec, name)


def read(text: str) -> tuple[list[Object], list[str]]:
    """Return the objects in a text and what is wrong with them, as `line: rule`."""
    found: list[Object] = []
    wrong: list[str] = []
    for line, value in documents(textwrap.dedent(text)):
        report = Report("p.yaml", value["kind"])
        root = Field(value, "", line, report)
        kind, name = value["kind"], value["metadata"]["name"]
        namespace = None if kind in calico.CLUSTER_SCOPED else value["metadata"]["namespace"]
        reader = calico if value["apiVersion"] in calico.API_VERSIONS else kubernetes
        one = reader.READERS[kind](root, namespace, name)
        found += [] if one is None else [one]
        wrong += [f"{problem.line}: {problem.rule}" for problem in report.problems]
    return found, wrong


def object_of(text: str) -> Object:
    """Return the one object in a text, which has nothing wrong with it."""
    found, wrong = read(text)
    assert wrong == []
    assert len(found) == 1
    return found[0]


def policy_of(text: str) -> Policy:
    """Return the one policy in a text."""
    found = object_of(text)
    assert isinstance(found, Policy)
    return found


def tier_of(text: str) -> Tier:
    """Return the one tier in a text."""
    found = object_of(text)
    assert isinstance(found, Tier)
    return found


def set_of(text: str) -> NetworkSet:
    """Return the one network set in a text."""
    found = object_of(text)
    assert isinstance(found, NetworkSet)
    return found
