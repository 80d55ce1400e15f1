"""A policy that cannot be read or judged is an error with file, line, object and rule; it never counts as absent."""

import io
from pathlib import Path

import pytest

from deploy.semantics import manifests
from recorder.errors import InputError
from tests.deploy.world import calico, kubernetes

GOOD = kubernetes("podSelector: {}", "good")


def write(folder: Path, **files: str) -> Path:
    """Write files, dots for underscores, and return their folder."""
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("spec", "line", "rule"),
    [
        ("ingres: []", 5, "spec.ingres: unknown field"),
        ("ingress:\n- form: []", 6, "spec.ingress[0].form: unknown field"),
        ("ingress:\n- ports: [{port: 0}]", 6, "spec.ingress[0].ports[0].port: 0 is outside 1-65535"),
        ("ingress:\n- ports:\n  - port: 65536", 7, "65536 is outside 1-65535"),
        ("ingress: [{ports: [{port: 80, endPort: 79}]}]", 5, "79 is less than port 80"),
        ("ingress: [{ports: [{port: http, endPort: 79}]}]", 5, "endPort needs a numeric port"),
        ("ingress: [{ports: [{endPort: 79}]}]", 5, "endPort needs a port"),
        ("ingress: [{ports: [{port: '80'}]}]", 5, "is no port name"),
        ("ingress: [{ports: [{port: 80, protocol: tcp}]}]", 5, "'tcp' is none of TCP, UDP, SCTP"),
        ("ingress: [{from: [{}]}]", 5, "a peer needs podSelector, namespaceSelector or ipBlock"),
        ("ingress: [{from: [null]}]", 5, "is null"),
        ("ingress: {}", 5, "expected a list, found a mapping"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]", 5, "ipBlock may not stand together"),
        ("ingress: [{from: [{ipBlock: {}}]}]", 5, "`cidr` is missing"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]", 5, "is no prefix"),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]",
            5,
            "is no strict part of 10.0.0.0/8",
        ),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]", 5, "is no strict part of"),
        ("podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}", 5, "'in' is none of In, NotIn"),
        ("podSelector: {matchExpressions: [{key: a, operator: In}]}", 5, "operator In needs values"),
        ("podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}", 5, "Exists takes no values"),
        ("podSelector: {matchExpressions: [{operator: Exists}]}", 5, "`key` is missing"),
        ("podSelector: {matchLabels: {a: 1}}", 5, "spec.podSelector.matchLabels.a: expected text, found a number 1"),
        ("podSelector: {matchLabels: {a: yes}}", 5, "found a boolean True"),
        ("podSelector: {matchLabels: {'a b': c}}", 5, "'a b' is no label key"),
        ("podSelector: {matchLabel: {a: b}}", 5, "spec.podSelector.matchLabel: unknown field"),
        ("policyTypes: [ingress]", 5, "'ingress' is none of Ingress, Egress"),
        ("podSelector: {}\npodSelector: {}", 6, "duplicate key 'podSelector'"),
    ],
)
def test_a_broken_rule_says_file_line_object_and_rule(tmp_path: Path, spec: str, line: int, rule: str) -> None:
    """A broken rule says file line object and rule."""
    place = write(tmp_path, p_yaml=kubernetes(spec)) / "p.yaml"
    with pytest.raises(InputError) as caught:
        manifests.read([place])
    told = str(caught.value)
    assert told.startswith(f"{place}:{line}: ")
    assert rule in told
    assert "duplicate" in rule or "NetworkPolicy shop/p" in told


def test_all_broken_rules_are_told_at_once(tmp_path: Path) -> None:
    """All broken rules are told at once."""
    bad = kubernetes("ingres: []\nfoo: 1", "one") + kubernetes("policyTypes: [x]", "two")
    write(tmp_path, a_yaml=bad, b_yaml="a: [", c_yaml=GOOD)
    with pytest.raises(InputError) as caught:
        manifests.read([tmp_path])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert [name in line for name, line in zip(["/one", "/one", "/two", "b.yaml:"], lines, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("networking.k8s.io/v1", "NetworkPolicie"),
        ("networking.k8s.io/v1beta1", "NetworkPolicy"),
        ("extensions/v1beta1", "NetworkPolicy"),
        ("projectcalico.org/v3", "GlobalNetworkPolicy"),
        ("projectcalico.org/v3", "StagedNetworkPolicy"),
        ("projectcalico.org/v3", "Tier"),
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
        ("k8s.cni.cncf.io/v1", "MultiNetworkPolicy"),
    ],
)
def test_a_policy_of_a_kind_that_is_not_judged_is_an_error(tmp_path: Path, version: str, kind: str) -> None:
    """A policy of a kind that is not judged is an error."""
    write(tmp_path, p_yaml=f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    with pytest.raises(InputError, match=f"does not judge {version} {kind}"):
        manifests.read([tmp_path])


def test_objects_that_are_no_policies_are_ignored(tmp_path: Path) -> None:
    """Objects that are no policies are ignored."""
    other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {anything: [1, 2]}\n---\n"
    write(tmp_path, p_yaml=other + GOOD + "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\n")
    assert [policy.title for policy in manifests.read([tmp_path])] == ["NetworkPolicy shop/good"]


@pytest.mark.parametrize("text", ["just text", "[1, 2]", "metadata: {name: x}", "kind: NetworkPolicy\nmetadata: {}"])
def test_a_document_that_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    """A document that is no object is an error."""
    write(tmp_path, p_yaml=text)
    with pytest.raises(InputError, match="no Kubernetes object"):
        manifests.read([tmp_path])


def test_lists_and_documents_keep_the_line_of_each_object(tmp_path: Path) -> None:
    """Lists and documents keep the line of each object."""
    item = (
        "- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: %s, namespace: a}\n  spec: {}\n"
    )
    text = f"{GOOD}apiVersion: v1\nkind: List\nitems:\n{item % 'x'}{item % 'w'}"
    typed = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n- metadata: {name: z}\n  spec: {}\n"
    write(tmp_path, p_yaml=text, q_yaml=typed)
    found = manifests.read([tmp_path])
    assert [(policy.name, policy.namespace, policy.line) for policy in found] == [
        ("good", "shop", 1),
        ("x", "a", 10),
        ("w", "a", 14),
        ("z", "default", 4),
    ]


def test_folders_are_read_deep_without_hidden_names_and_kustomizations(tmp_path: Path) -> None:
    """Folders are read deep without hidden names and kustomizations."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".podfence").mkdir()
    write(tmp_path / "a" / "b", x_yml=GOOD)
    write(tmp_path, kustomization_yaml="resources: [a]\n", notes_txt="{{")
    write(tmp_path / ".podfence", evidence_json='{"kind": 1}')
    (tmp_path / "y.json").write_text(
        '{\n\t"apiVersion": "networking.k8s.io/v1",\n\t"kind": "NetworkPolicy", "metadata": {"name": "j"}\n}'
    )
    assert [policy.name for policy in manifests.read([tmp_path])] == ["good", "j"]


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash is standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(GOOD))
    assert [policy.file for policy in manifests.read(["-"])] == ["<stdin>"]


def test_an_object_given_twice_is_an_error(tmp_path: Path) -> None:
    """An object given twice is an error."""
    write(tmp_path, a_yaml=GOOD, b_yaml=GOOD, c_yaml=calico("selector: all()", "good"))
    with pytest.raises(InputError, match=r"b\.yaml:1: NetworkPolicy shop/good: given twice, first in .*a\.yaml:1$"):
        manifests.read([tmp_path])


def test_places_without_policies_are_errors(tmp_path: Path) -> None:
    """Places without policies are errors."""
    with pytest.raises(InputError, match="holds no"):
        manifests.read([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        manifests.read([tmp_path / "gone"])
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        manifests.read([tmp_path])


def test_aliases_are_read_and_bombs_are_not(tmp_path: Path) -> None:
    """Aliases are read and bombs are not."""
    shared = "ports: &p [{port: 80}]"
    write(tmp_path, a_yaml=kubernetes(f"ingress:\n- {shared}\negress:\n- ports: *p"))
    assert manifests.read([tmp_path])[0].egress[0].ports[0].low == 80
    bomb = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    write(tmp_path, a_yaml=f"l0: &l0 [x]\n{bomb}")
    with pytest.raises(InputError, match="aliases expand to more than"):
        manifests.read([tmp_path])
    write(tmp_path, a_yaml="a: &a [*a]\n")
    with pytest.raises(InputError, match="contains itself"):
        manifests.read([tmp_path])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: !!python/object:x {}", "unknown tag"),
        ("[" * 200 + "]" * 200, "nested deeper"),
        ("[" * 100_000, "YAML|nested"),
        ("a: 'x", "not YAML"),
        ("? [a]\n: b", "a key that is no text"),
        ("y: b", "a key that is no text"),
    ],
)
def test_text_that_may_not_be_trusted_is_an_error(tmp_path: Path, text: str, rule: str) -> None:
    """Text that may not be trusted is an error."""
    write(tmp_path, p_yaml=text)
    with pytest.raises(InputError, match=rule):
        manifests.read([tmp_path])


def test_a_list_whose_items_are_no_list_is_an_error() -> None:
    """Policies in a list that cannot be read are not taken for absent."""
    found, problems = manifests.parse("{apiVersion: v1, kind: List, items: {a: {kind: NetworkPolicy}}}", "p.yaml")
    assert (found, [problem.rule for problem in problems]) == ([], ["items: expected a list, found a mapping"])
