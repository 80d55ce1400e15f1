"""Reads kustomization files and refuses by name what would change a policy and is not followed; nothing is run or fetched.

Fields: kubernetes-sigs/kustomize api/types/kustomization.go; what they do to which kinds: api/internal/konfig/builtinpluginconsts
(common labels reach the selectors of NetworkPolicy) and the reference at kubectl.docs.kubernetes.io.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.semantics.reading.documents import UnreadableError, documents
from deploy.semantics.reading.fields import Field, Problem, Report

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")

_FOLLOWED = (
    "apiVersion",
    "kind",
    "metadata",
    "namespace",
    "labels",
    "resources",
    "bases",
    "patches",
    "patchesJson6902",
)
_HARMLESS = (
    # They make or change objects that are no policies, or what no policy is judged by.
    *("images", "imageTags", "replicas", "configMapGenerator", "secretGenerator", "generatorOptions"),
    *("commonAnnotations", "buildMetadata", "sortOptions", "inventory", "openapi", "crds", "validators"),
)
_REFUSED = (
    *("namePrefix", "nameSuffix", "commonLabels", "patchesStrategicMerge", "replacements", "vars", "components"),
    *("configurations", "generators", "transformers", "helmCharts", "helmGlobals", "helmChartInflationGenerator"),
)
_NO_POLICIES = frozenset(
    {
        *("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob", "Service", "ServiceAccount"),
        *("ConfigMap", "Secret", "Ingress", "HorizontalPodAutoscaler", "PersistentVolumeClaim", "PodDisruptionBudget"),
    }
)
"""Kinds that a patch may change without changing a policy."""


@dataclass(frozen=True, slots=True)
class Kustomization:
    """What a kustomization does: `resources` are (line, place in the file, text), `labels` go to the objects' own."""

    file: str
    namespace: str | None
    labels: tuple[tuple[str, str], ...]
    resources: tuple[tuple[int, str, str], ...]


def named(folder: Path) -> list[Path]:
    """Return the kustomization files of a folder."""
    return [folder / name for name in NAMES if (folder / name).is_file()]


def read(folder: Path, problems: list[Problem]) -> Kustomization | None:
    """Return the kustomization of a folder, None where there is none to follow; all that is wrong is added to `problems`."""
    files = named(folder)
    if len(files) > 1:
        others = " and ".join(file.name for file in files[1:])
        problems.append(Problem(str(files[0]), 0, "Kustomization", f"stands beside {others}: which one counts?"))
        return None
    file = str(files[0])
    try:
        found = list(documents(files[0].read_text(encoding="utf-8-sig")))
    except UnreadableError as error:
        problems.append(Problem(file, error.line, "Kustomization", error.rule))
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problems.append(Problem(file, 0, "Kustomization", f"cannot be read: {reason}"))
        return None
    report = Report(file, "Kustomization", problems)
    if len(found) != 1 or not isinstance(found[0][1], dict):
        Field(None, "", found[0][0] if found else 1, report).fail("expected one document with a mapping")
        return None
    return _followed(Field(found[0][1], "", found[0][0], report))


def _followed(root: Field) -> Kustomization:
    root["kind"].choice(("Kustomization",))
    root["apiVersion"].choice(("kustomize.config.k8s.io/v1beta1", "kustomize.config.k8s.io/v1"))
    for key, value in root.value.items():
        if key in _REFUSED and value not in (None, "", [], {}):
            root[key].fail(
                "would change policies, and podfence does not follow it; give it what `kustomize build` writes"
            )
        elif key not in (*_FOLLOWED, *_HARMLESS, *_REFUSED):
            root[key].fail("unknown field")
    for patch in (*root["patches"].items(), *root["patchesJson6902"].items()):
        _check_patch(patch)
    resources = [
        (item.line, item.path, text)
        for item in (*root["resources"].items(), *root["bases"].items())
        if (text := item.text()) is not None
    ]
    return Kustomization(root.report.file, root["namespace"].text() or None, _labels(root["labels"]), tuple(resources))


def _check_patch(patch: Field) -> None:
    """Note a patch unless it names a kind that holds no policies."""
    if patch["target"]["kind"].value not in _NO_POLICIES:
        patch.fail("may change policies, and podfence does not follow it; name the kind of its target if it does not")


def _labels(field: Field) -> tuple[tuple[str, str], ...]:
    """Return the labels that go to the objects themselves; those that go to selectors, too, are noted."""
    found: dict[str, Any] = {}
    for item in field.items():
        item.only("pairs", "includeTemplates", "includeSelectors", "fields")
        for key in ("includeSelectors", "fields"):
            if item[key].value:
                item[key].fail("would change policies, and podfence does not follow it")
        pairs = item["pairs"]
        if pairs.mapping():
            found |= {key: pairs[key].text() or "" for key in pairs.keys()}  # noqa: SIM118 - no mapping, a field
    return tuple(found.items())
