"""Reads names and labels of Calico's objects, also of stored ones, which keep them in an annotation.

Stored form (`crd.projectcalico.org/v1`): projectcalico/calico libcalico-go/lib/backend/k8s/resources/resources.go
(`ConvertK8sResourceToCalicoResource`, `determinePolicyName`).
"""

import json
from typing import Any

from deploy.semantics.reading.fields import Field

STORED_VERSION = "crd.projectcalico.org/v1"

_ANNOTATION = "projectcalico.org/metadata"


def name_of(root: Field, name: str) -> str:
    """Return a policy's name: that in a stored one's annotation, or without the prefix `default.` of the default tier.

    A stored one without the annotation is called as it stands.
    """
    found = _kept(root)
    if found is None:
        return name
    kept = found.get("name")
    if isinstance(kept, str) and kept:
        return kept
    return name.removeprefix("default.") if root["spec"]["tier"].value in (None, "", "default") else name


def labels_of(root: Field) -> dict[str, str]:
    """Return an object's labels; what a stored one keeps in its annotation goes before what it carries itself."""
    field = root["metadata"]["labels"]
    found = {}
    if field.mapping():
        for key in field.keys():  # noqa: SIM118 - not a mapping
            value = field[key].text()
            if value is not None:
                found[key] = value
    kept = (_kept(root) or {}).get("labels")
    if isinstance(kept, dict):
        found |= {str(key): str(value) for key, value in kept.items()}
    return found


def _kept(root: Field) -> dict[str, Any] | None:
    """Return what a stored object keeps in its annotation, None where there is none."""
    if root["apiVersion"].value != STORED_VERSION:
        return None
    field = root["metadata"]["annotations"][_ANNOTATION]
    text = field.text()
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        field.fail("is no JSON object")
        return {}
    return found
