"""What every object that podfence writes carries: a safe name and the labels and annotations that say whose it is."""

import hashlib
import re
from typing import Any

# DNS-1123 subdomains take 253 characters; file systems take names of 255 bytes, and `.yaml` is five of them.
_LONGEST = 250
_SAFE = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_RESERVED = frozenset({"default-deny"})


def object_name(workload: str, kind: str, name: str) -> str:
    """Return a workload's object name: `kind-name` where that is one, else a cleaned one ended by a digest.

    The API takes any DNS subdomain (RFC 1123); dots are replaced all the same, because Calico takes what stands before
    one for the policy's tier. Depends on this workload alone, so that no other one can change it.
    """
    plain = f"{kind}-{name}"
    if _SAFE.fullmatch(plain) and len(plain) <= _LONGEST and plain not in _RESERVED and "-" not in kind:
        return plain
    digest = hashlib.sha256(workload.encode()).hexdigest()[:10]
    cleaned = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return f"{cleaned[: _LONGEST - 11].strip('-') or 'workload'}-{digest}"


def metadata(name: str, namespace: str, workload: str | None = None) -> dict[str, Any]:
    """Return an object's metadata; the workload it is about is named in an annotation."""
    found: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "podfence"},
    }
    return found | ({"annotations": {"podfence.dev/workload": workload}} if workload else {})
