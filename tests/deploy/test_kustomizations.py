"""A folder with a kustomization holds what that lists, changed as it says; what is not followed is refused by name.

Sources: kubernetes-sigs/kustomize api/types/kustomization.go (fields), api/internal/konfig/builtinpluginconsts (which kinds common
labels reach).
"""

from pathlib import Path

import pytest

from deploy.semantics.reading import manifests
from recorder.errors import InputError
from tests.deploy.world import kubernetes


def lay(folder: Path, **files: str) -> Path:
    """Write files, `__` standing for a slash and `_` for a dot, and return their folder."""
    for name, text in files.items():
        place = folder / name.replace("__", "/").replace("_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return folder


def titles(*paths: Path) -> list[str]:
    """Return the titles of the policies that are read."""
    return [policy.title for policy in manifests.read(paths).policies]


def complaints(folder: Path) -> list[str]:
    """Return what reading a folder complains about, by places inside it."""
    with pytest.raises(InputError) as caught:
        manifests.read([folder])
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def test_resources_are_read_in_their_order_and_deep(tmp_path: Path) -> None:
    """Files and folders with kustomizations that are listed are read, in the order in which they are listed."""
    lay(
        tmp_path,
        kustomization_yaml="resources: [z.yaml, base, deep/x.yaml]\n",
        z_yaml=kubernetes("{}", "z"),
        deep__x_yaml=kubernetes("{}", "x"),
        base__kustomization_yml="kind: Kustomization\nbases: [../other]\nresources: [b.yaml]\n",
        base__b_yaml=kubernetes("{}", "b"),
        other__Kustomization="resources: [o.json]\n",
        other__o_json='{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "o"}}',
    )
    expected = ["NetworkPolicy shop/z", "NetworkPolicy shop/b", "NetworkPolicy default/o", "NetworkPolicy shop/x"]
    assert titles(tmp_path) == expected
    assert titles(tmp_path / "kustomization.yaml") == expected


def test_the_outermost_namespace_replaces_all_others(tmp_path: Path) -> None:
    """`namespace` goes to every namespaced object, whatever it says, and one further out goes before it."""
    tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n"
    lay(
        tmp_path,
        base__kustomization_yaml="namespace: inner\nresources: [b.yaml]\n",
        base__b_yaml=kubernetes("{}", "b") + tier,
        over__kustomization_yaml="namespace: outer\nresources: [../base]\n",
    )
    assert titles(tmp_path / "base") == ["NetworkPolicy inner/b"]
    assert titles(tmp_path / "over") == ["NetworkPolicy outer/b"]
    assert [one.title for one in manifests.read([tmp_path / "over"]).tiers] == ["Tier t"]


def test_labels_reach_the_objects_that_selectors_mean(tmp_path: Path) -> None:
    """`labels` are added to an object's own, so that a network set is selected by them."""
    body = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s, labels: {a: b, c: d}}\nspec: {}\n"
    lay(tmp_path, kustomization_yaml="labels: [{pairs: {c: e, f: g}}]\nresources: [s.yaml]\n", s_yaml=body)
    (found,) = manifests.read([tmp_path]).sets
    assert dict(found.labels) == {"a": "b", "c": "e", "f": "g"}


def test_what_changes_no_policy_is_no_matter(tmp_path: Path) -> None:
    """Images, replicas, generators of ConfigMaps, and patches of workloads leave policies as they are."""
    text = """\
        apiVersion: kustomize.config.k8s.io/v1beta1
        kind: Kustomization
        images: [{name: a, newTag: b}]
        replicas: [{name: a, count: 2}]
        configMapGenerator: [{name: a}]
        commonAnnotations: {a: b}
        namePrefix: ""
        patches: [{path: x.yaml, target: {kind: Deployment}}]
        resources: [p.yaml]
        """
    lay(tmp_path, kustomization_yaml=text, p_yaml=kubernetes("{}"))
    assert titles(tmp_path) == ["NetworkPolicy shop/p"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("namePrefix: a-", "2: Kustomization: namePrefix: would change policies"),
        ("nameSuffix: -a", "2: Kustomization: nameSuffix: would change policies"),
        ("commonLabels: {a: b}", "2: Kustomization: commonLabels: would change policies"),
        (
            "labels: [{pairs: {a: b}, includeSelectors: true}]",
            "2: Kustomization: labels[0].includeSelectors: would change",
        ),
        ("labels: [{pairs: {a: b}, fields: [{path: x}]}]", "2: Kustomization: labels[0].fields: would change policies"),
        ("patchesStrategicMerge: [x.yaml]", "2: Kustomization: patchesStrategicMerge: would change policies"),
        ("patches: [{path: x.yaml}]", "2: Kustomization: patches[0]: may change policies"),
        ("patches: [{path: x.yaml, target: {kind: .*}}]", "2: Kustomization: patches[0]: may change policies"),
        (
            "patchesJson6902: [{target: {kind: NetworkPolicy}}]",
            "2: Kustomization: patchesJson6902[0]: may change policies",
        ),
        ("components: [x]", "2: Kustomization: components: would change policies"),
        ("replacements: [{}]", "2: Kustomization: replacements: would change policies"),
        ("transformers: [x]", "2: Kustomization: transformers: would change policies"),
        ("generators: [x]", "2: Kustomization: generators: would change policies"),
        ("helmCharts: [{name: x}]", "2: Kustomization: helmCharts: would change policies"),
        ("resource: [x]", "2: Kustomization: resource: unknown field"),
        ("namespace: 1", "2: Kustomization: namespace: expected text, found a number 1"),
        ("kind: Component", "2: Kustomization: kind: 'Component' is none of Kustomization"),
        (
            "apiVersion: kustomize.toolkit.fluxcd.io/v1",
            "2: Kustomization: apiVersion: 'kustomize.toolkit.fluxcd.io/v1' is none",
        ),
        ("a: [", "not YAML"),
        ("--- {}", "1: Kustomization: expected one document with a mapping"),
    ],
)
def test_what_would_change_policies_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    """What a kustomization does and podfence does not is an error with file, line and field, never passed over."""
    lay(tmp_path, kustomization_yaml=f"resources: [p.yaml]\n{text}\n", p_yaml=kubernetes("{}"))
    found = complaints(tmp_path)
    assert len(found) == 1
    assert found[0].startswith("kustomization.yaml:")
    assert complaint in found[0]


def test_resources_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    """Nothing is fetched and nothing passed over: what is listed is there, in the folder, and no circle."""
    listed = "[gone.yaml, 'https://example.org/x.yaml', plain, ../out.yaml, ., 'over']"
    lay(
        tmp_path,
        in__kustomization_yaml=f"resources: {listed}\n",
        in__plain__x_yaml=kubernetes("{}"),
        in__over__kustomization_yaml="resources: [..]\n",
        out_yaml=kubernetes("{}"),
    )
    assert [line.removeprefix("kustomization.yaml:1: Kustomization: ") for line in complaints(tmp_path / "in")] == [
        "resources[0]: gone.yaml: no such file or folder (podfence fetches nothing)",
        "resources[1]: https://example.org/x.yaml: no such file or folder (podfence fetches nothing)",
        "resources[2]: plain: is a folder without kustomization",
        "resources[3]: ../out.yaml: is a file outside the kustomization's folder, which kustomize does not read",
        "resources[4]: .: leads back to a kustomization above it",
        "over/kustomization.yaml:1: Kustomization: resources[0]: ..: leads back to a kustomization above it",
    ]


def test_policies_that_no_kustomization_lists_are_errors(tmp_path: Path) -> None:
    """A policy beside a kustomization that does not list it is neither taken nor passed over; other files are no matter."""
    lay(
        tmp_path,
        kustomization_yaml="resources: [shop/a.yaml]\n",
        shop__a_yaml=kubernetes("{}", "a"),
        shop__b_yaml=kubernetes("{}", "b"),
        c_yaml=kubernetes("ingres: []", "c"),
        values_yaml="replicas: 2\n",
        template_yaml="{{ if }}: [",
        other__d_yaml=kubernetes("{}", "d"),
    )
    rule = "the kustomization of its folder does not list this file"
    assert complaints(tmp_path) == [
        f"c.yaml:1: NetworkPolicy shop/c: {rule}",
        f"shop/b.yaml:1: NetworkPolicy shop/b: {rule}",
    ]


def test_two_kustomizations_in_a_folder_are_an_error(tmp_path: Path) -> None:
    """Which of two counts is not guessed."""
    lay(tmp_path, kustomization_yaml="resources: []\n", kustomization_yml="resources: []\n")
    assert complaints(tmp_path) == [
        "kustomization.yaml: Kustomization: stands beside kustomization.yml: which one counts?"
    ]


def test_kustomizations_below_a_plain_folder_are_followed(tmp_path: Path) -> None:
    """In a folder without one, those of the folders below count; what base and overlay both say is given twice."""
    lay(
        tmp_path,
        a__kustomization_yaml="namespace: there\nresources: [p.yaml]\n",
        a__p_yaml=kubernetes("{}"),
        b_yaml=kubernetes("{}"),
    )
    assert titles(tmp_path) == ["NetworkPolicy there/p", "NetworkPolicy shop/p"]
    lay(tmp_path, c__kustomization_yaml="resources: [../a]\n")
    assert complaints(tmp_path) == ["a/p.yaml:1: NetworkPolicy there/p: given twice, first in a/p.yaml:1"]


def test_a_link_that_leads_back_is_an_error(tmp_path: Path) -> None:
    """Folders that hold themselves are not read for ever."""
    lay(tmp_path, a__p_yaml=kubernetes("{}"))
    (tmp_path / "a" / "b").symlink_to(tmp_path)
    assert complaints(tmp_path) == ["a/b: leads back to a folder above it"]
