"""Services as nftables rules of one node, in the shape that kube-proxy gives them."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

MASQUERADE = "0x4000"


@dataclass(frozen=True, slots=True)
class DeliveredPort:
    """One port of a Service with the backends that stand behind it now."""

    cluster_ip: str
    port: int
    protocol: str
    backends: tuple[tuple[str, int], ...]
    node_port: int | None = None
    local_only: bool = False


def ruleset(ports: list[DeliveredPort], node_ip: str, pod_cidr: str, pod_range: str) -> str:
    """Write the node's whole table, to be loaded in one transaction in place of the last one.

    local_only is externalTrafficPolicy Local: a NodePort then leads to backends of the node's own podCIDR alone and
    keeps the client's address.
    """
    services: list[str] = []
    refused: list[str] = []
    chains: list[str] = []
    for number, port in enumerate(ports):
        dialled = f"ip daddr {port.cluster_ip} {port.protocol} dport {port.port}"
        if not port.backends:
            refused.append(f"{dialled} reject")
        else:
            services.append(f"{dialled} goto svc-{number}")
            chains.append(_balancer(f"svc-{number}", f"ip saddr != {pod_range} ", number, port.backends, port.backends))
            chains += [_endpoint(number, index, port.protocol, *end) for index, end in enumerate(port.backends)]
        if port.node_port is None:
            continue
        # Another node's NodePort is that node's business.
        dialled = f"ip daddr {node_ip} {port.protocol} dport {port.node_port}"
        own = ip_network(pod_cidr)
        reached = tuple(end for end in port.backends if not port.local_only or ip_address(end[0]) in own)
        if not reached:
            refused.append(f"{dialled} {'drop' if port.backends else 'reject'}")
        else:
            services.append(f"{dialled} goto ext-{number}")
            mark = None if port.local_only else ""
            chains.append(_balancer(f"ext-{number}", mark, number, reached, port.backends))
    return f"""add table ip podlab
delete table ip podlab
table ip podlab {{
  chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain output {{ type nat hook output priority -100; jump services; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    # The mark outlives VXLAN's encapsulation: cleared here, or the outer packet would be rewritten as well.
    meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark xor {MASQUERADE} masquerade
    ip saddr {pod_range} ip daddr != {pod_range} masquerade
  }}
  chain forward {{ type filter hook forward priority filter; jump refused; }}
  chain local-in {{ type filter hook input priority filter; jump refused; }}
  chain local-out {{ type filter hook output priority filter; jump refused; }}
  chain services {{
    {"; ".join(services)}
  }}
  chain refused {{
    {"; ".join(refused)}
  }}
  {"; ".join(chains)}
}}
"""


def _balancer(
    name: str,
    mark: str | None,
    number: int,
    reached: tuple[tuple[str, int], ...],
    backends: tuple[tuple[str, int], ...],
) -> str:
    lines = [] if mark is None else [f"{mark}meta mark set meta mark or {MASQUERADE}"]
    choices = ", ".join(f"{turn} : goto ep-{number}-{backends.index(end)}" for turn, end in enumerate(reached))
    lines.append(f"numgen random mod {len(reached)} vmap {{ {choices} }}")
    return f"chain {name} {{ {'; '.join(lines)}; }}"


def _endpoint(number: int, index: int, protocol: str, address: str, port: int) -> str:
    # A pod that reaches itself through its Service must see the node's address, or it would answer itself directly.
    hairpin = f"ip saddr {address} meta mark set meta mark or {MASQUERADE}"
    return f"chain ep-{number}-{index} {{ {hairpin}; meta l4proto {protocol} dnat to {address}:{port}; }}"
