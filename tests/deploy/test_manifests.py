"""A policy that cannot be read or judged is an error with file, line, object and rule; it never counts as absent."""

import io
import textwrap
import tracemalloc
from pathlib import Path

import pytest

from deploy.semantics.reading import manifests
from recorder.errors import InputError
from tests.deploy.world import calico, kubernetes, policies

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
        ("ingress: [{ports: [{port: 70000}]}]", 5, "spec.ingress[0].ports[0].port: 70000 is outside 1-65535"),
        ("ingress: [{ports: [{port: Pg}]}]", 5, "'Pg' is no port name"),
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
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/255.0.0.0}}]}]", 5, "is no prefix"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/08}}]}]", 5, "is no prefix"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]", 5, "is no prefix"),
        ("ingress: [{from: [{ipBlock: {cidr: 'fe80::%eth0/64'}}]}]", 5, "is no prefix"),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['2001:db8::/32']}}]}]",
            5,
            "is no strict part of 10.0.0.0/8",
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]",
            5,
            "is no strict part of 10.0.0.0/8",
        ),
        ("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: ['::1/128']}}]}]", 5, "is no strict part of 0.0.0.0/0"),
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
        ("policyTypes: [Ingress, Egress, Ingress]", 5, "spec.policyTypes: names more than two directions"),
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
        ("projectcalico.org/v2", "NetworkPolicy"),
        ("projectcalico.org/v3", "PacketCapture"),
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha1", "ClusterNetworkPolicy"),
        ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy"),
        ("networking.k8s.aws/v1alpha1", "ClusterNetworkPolicy"),
        ("k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy"),
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
    assert [policy.title for policy in manifests.read([tmp_path]).policies] == ["NetworkPolicy shop/good"]


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
    assert [(policy.name, policy.namespace, policy.line) for policy in found.policies] == [
        ("good", "shop", 1),
        ("x", "a", 10),
        ("w", "a", 14),
        ("z", "default", 4),
    ]


def test_folders_are_read_deep_without_hidden_names(tmp_path: Path) -> None:
    """Folders are read deep, files of other suffixes and hidden names left out."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".podfence").mkdir()
    write(tmp_path / "a" / "b", x_yml=GOOD)
    write(tmp_path, notes_txt="{{")
    write(tmp_path / ".podfence", evidence_json='{"kind": 1}')
    (tmp_path / "y.json").write_text(
        '{\n\t"apiVersion": "networking.k8s.io/v1",\n\t"kind": "NetworkPolicy", "metadata": {"name": "j"}\n}'
    )
    assert [policy.name for policy in manifests.read([tmp_path]).policies] == ["good", "j"]


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash is standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + GOOD.encode())))
    assert [policy.file for policy in manifests.read(["-"]).policies] == ["<stdin>"]


def test_an_object_given_twice_is_an_error(tmp_path: Path) -> None:
    """An object given twice is an error, in either API group of Calico; one of Calico is another than Kubernetes' namesake."""
    other = calico("selector: all()", "good")
    stored = other.replace("projectcalico.org/v3", "crd.projectcalico.org/v1")
    write(tmp_path, a_yaml=GOOD, b_yaml=GOOD, c_yaml=other, d_yaml=stored)
    with pytest.raises(InputError) as caught:
        manifests.read([tmp_path])
    assert [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()] == [
        f"b.yaml:1: NetworkPolicy shop/good: given twice, first in {tmp_path}/a.yaml:1",
        f"d.yaml:1: Calico NetworkPolicy shop/good: given twice, first in {tmp_path}/c.yaml:1",
    ]


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
    assert manifests.read([tmp_path]).policies[0].egress[0].traffic.ports[0].low == 80
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


@pytest.mark.parametrize(
    ("metadata", "line", "rule"),
    [
        ("{namespace: a}", 3, "metadata: `name` is missing"),
        ("{name: ''}", 3, "metadata: `name` is missing"),
        ("{name: a_b}", 3, "metadata.name: 'a_b' is no name"),
        ("{name: A}", 3, "metadata.name: 'A' is no name"),
        ("{name: a..b}", 3, "metadata.name: 'a..b' is no name"),
        (f"{{name: {'a' * 254}}}", 3, "is no name"),
        ("{name: 1}", 3, "metadata.name: expected text, found a number 1"),
        ("{name: a, namespace: x.y}", 3, "metadata.namespace: 'x.y' is no name of a namespace"),
        ("{name: a, labels: {b: 1}}", 3, "metadata.labels.b: expected text, found a number 1"),
        ("{name: a, annotations: [b]}", 3, "metadata.annotations: expected a mapping, found a list"),
        ("{name: a,\n  nmespace: b}", 4, "metadata.nmespace: unknown field"),
        ("[a]", 3, "metadata: expected a mapping, found a list"),
    ],
)
def test_metadata_are_held_to_the_rules_of_the_api(metadata: str, line: int, rule: str) -> None:
    """A name is one in the sense of the API (apimachinery pkg/api/validation/objectmeta.go)."""
    text = f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {metadata}\nspec: {{}}\n"
    _, problems = manifests.parse(text, "p.yaml")
    assert [(problem.line, rule in problem.rule) for problem in problems] == [(line, True)]


def test_a_namespaced_object_without_namespace_goes_to_the_one_given() -> None:
    """A namespaced object without namespace goes where it is told, one of a cluster-scoped kind nowhere."""
    policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {}\n---\n"
    tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n"
    found, problems = manifests.parse(policy + tier, "p.yaml", namespace="here")
    assert ([one.title for one in found], problems) == (["NetworkPolicy here/a", "Tier t"], [])
    found, problems = manifests.parse(tier.replace("name: t", "name: t, namespace: x"), "p.yaml")
    assert [str(problem) for problem in problems] == [
        "p.yaml:3: Tier t: metadata.namespace: objects of this kind have no namespace"
    ]


def test_a_broken_document_hides_no_other(tmp_path: Path) -> None:
    """What is wrong with the documents after one that cannot be read is told, too."""
    write(tmp_path, p_yaml=f"a: [\n---\nb: {{\n---\n{kubernetes('ingres: []')}")
    with pytest.raises(InputError) as caught:
        manifests.read([tmp_path, tmp_path / "gone"])
    told = str(caught.value).removeprefix(f"{tmp_path}/").split(f"\n{tmp_path}/")
    assert [line.split(" ")[0] for line in told] == ["gone:", "p.yaml:2:", "p.yaml:4:", "p.yaml:9:"]


def test_the_first_hundred_broken_rules_are_told_and_the_others_counted(tmp_path: Path) -> None:
    """However many rules are broken, the answer stays readable and says how many there are."""
    ports = "".join(f"  - port: {number}\n" for number in range(70_000, 71_500))
    write(tmp_path, p_yaml=kubernetes(f"ingress:\n- ports:\n{ports}"), q_yaml=kubernetes("ingres: 1", "q"))
    with pytest.raises(InputError) as caught:
        manifests.read([tmp_path])
    lines = str(caught.value).splitlines()
    assert len(lines) == 101
    assert ["70000" in lines[0], "70099" in lines[99], lines[100]] == [True, True, "and 1401 more"]


def test_a_broken_rule_is_told_in_one_printable_line() -> None:
    """What a file holds cannot add lines, nor anything a terminal would obey, nor text without end."""
    text = kubernetes(f'"a\\nb\\e[31m{"x" * 800}": 1')
    with pytest.raises(InputError) as caught:
        policies(text)
    told = str(caught.value)
    assert told.isprintable()
    assert "spec.a\\nb" in told
    assert len(told) < 400


def test_a_typed_list_names_the_place_of_an_item_that_is_no_object() -> None:
    """An item that is null or a text is no object, and is not passed over."""
    text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n-\n- text\n"
    _, problems = manifests.parse(text, "p.yaml")
    assert [str(problem) for problem in problems] == [
        f"p.yaml:{line}: no Kubernetes object: `kind` is missing" for line in (4, 5)
    ]


def test_items_of_something_that_is_no_list_are_no_objects() -> None:
    """`items` of another kind are that kind's own affair."""
    inner = kubernetes("ingres: []").replace("\n---\n", "")
    text = f"apiVersion: example.org/v1\nkind: Menu\nitems:\n- {textwrap.indent(inner, '  ').strip()}\n"
    assert manifests.parse(text, "p.yaml") == ([], [])


def test_a_long_list_is_not_held_whole() -> None:
    """A list is read item by item: memory grows with what is found, not with what is read."""
    item = "- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: x, labels: {a: b, c: d}}\n"
    text = f"apiVersion: v1\nitems:\n{item * 4_000}kind: List\n"
    tracemalloc.start()
    found = manifests.parse(text, "p.yaml")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == ([], [])
    assert peak < 3 * len(text)


def test_api_objects_are_judged_like_files() -> None:
    """Objects of a recording are read like those of files, and complain without a line."""
    good = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a", "namespace": "b"}}
    assert [one.title for one in manifests.judge_objects([("inventory", good)]).policies] == ["NetworkPolicy b/a"]
    with pytest.raises(InputError, match=r"^inventory: NetworkPolicy b/a: spec\.x: unknown field$"):
        manifests.judge_objects([("inventory", good | {"spec": {"x": 1}})])
    with pytest.raises(InputError, match="given twice, first in inventory"):
        manifests.judge_objects([("inventory", good), ("inventory", good)])
