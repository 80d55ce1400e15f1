"""The wires: nodes on an underlay, pods behind veth pairs in Calico's shape, VXLAN between nodes, Services as DNAT."""

import hashlib
import socket
from dataclasses import dataclass, field

from .namespaces import LabError, Namespace, ip, run
from .rules import DeliveredPort, ruleset
from .truth import Side

POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
UPLINK_GATEWAY = "172.18.0.1"
# The host end of every veth has the same address in Calico, so the gateway's link-local address is known beforehand.
GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY = "169.254.1.1"
GATEWAY6 = "fe80::ecee:eeff:feee:eeee"
OVERLAY = "vxlan.calico"


@dataclass(slots=True, eq=False)
class Node:
    """A node's namespace with its addresses."""

    name: str
    number: int
    netns: Namespace
    addresses_used: int = 9
    ip: str = field(init=False)
    pod_cidr: str = field(init=False)
    pod_cidr6: str = field(init=False)
    tunnel_ip: str = field(init=False)
    tunnel_ip6: str = field(init=False)
    mac: str = field(init=False)

    def __post_init__(self) -> None:
        self.ip = f"172.18.0.{1 + self.number}"
        self.pod_cidr = f"10.244.{self.number}.0/24"
        self.pod_cidr6 = f"fd00:10:244:{self.number}::/64"
        self.tunnel_ip = f"10.244.{self.number}.0"
        self.tunnel_ip6 = f"fd00:10:244:{self.number}::1"
        self.mac = f"66:00:00:00:00:{self.number:02x}"

    def next_ip(self) -> str:
        """Hand out the next pod address of this node; none is handed out twice."""
        self.addresses_used += 1
        if self.addresses_used > 254:
            raise LabError(f"{self.name} has no pod address left")
        return f"10.244.{self.number}.{self.addresses_used}"

    def ip6_of(self, address: str) -> str:
        """Give the IPv6 address that goes with a pod's IPv4 address."""
        return f"fd00:10:244:{self.number}::{address.rpartition('.')[2]}"

    def side(self, address: str, port: int) -> Side:
        """Describe this node as one end of a connection."""
        return Side("node", None, None, None, None, self.name, address, port)


@dataclass(slots=True, eq=False)
class Outside:
    """The world beyond the cluster: one namespace that holds any address it is given."""

    netns: Namespace

    def add_address(self, address: str) -> None:
        """Hold one more address."""
        ip([f"addr add {address}/32 dev lo"], self.netns)

    def side(self, address: str, port: int) -> Side:
        """Describe the outside as one end of a connection."""
        return Side("outside", None, None, None, None, None, address, port)


@dataclass(slots=True, eq=False)
class Link:
    """A pod's attachment: its namespace, and the interface that its node has for it."""

    netns: Namespace
    interface: str
    ifindex: int


class Network:
    """All namespaces of one lab, under one prefix."""

    def __init__(self, prefix: str, *, dual_stack: bool = False) -> None:
        self.prefix = prefix
        self.dual_stack = dual_stack
        self.nodes: list[Node] = []
        self._made: dict[str, Namespace] = {}
        underlay, outside = f"{prefix}-underlay", f"{prefix}-outside"
        try:
            self._make(underlay, outside)
            self.underlay = self._made[underlay]
            self.outside = Outside(self._made[outside])
            self._quiet(self.underlay)
            ip(["link add br0 type bridge", "link set br0 up"], self.underlay)
            self._uplink(self.outside.netns, "outside", UPLINK_GATEWAY)
        except BaseException:
            self.close()
            raise

    def add_node(self, name: str) -> Node:
        """Connect a node to the underlay, and to every other node by VXLAN."""
        number = len(self.nodes) + 1
        self._make(f"{self.prefix}-{name}")
        node = Node(name, number, self._made[f"{self.prefix}-{name}"])
        self._uplink(node.netns, name, node.ip)
        node.netns.sysctl(
            {"ipv4/ip_forward": 1, "ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0}
            | ({"ipv6/conf/all/forwarding": 1, "ipv6/conf/default/accept_dad": 0} if self.dual_stack else {})
        )
        overlay = [
            # proxy_arp answers only where a route leads elsewhere, hence a default route even without an outside.
            f"route add default via {UPLINK_GATEWAY}",
            f"link add {OVERLAY} address {node.mac} type vxlan id 4096 local {node.ip} dev eth0 dstport 4789 nolearning",
            f"addr add {node.tunnel_ip}/32 dev {OVERLAY}",
            f"link set {OVERLAY} up",
            f"route add blackhole {node.pod_cidr}",
        ]
        if self.dual_stack:
            overlay.append(f"addr add {node.tunnel_ip6}/128 dev {OVERLAY} nodad")
        ip(overlay, node.netns)
        for other in self.nodes:
            self._tunnel(node, other)
            self._tunnel(other, node)
        self.nodes.append(node)
        return node

    def attach(self, node: Node, name: str, interface: str, address: str) -> Link:
        """Make a pod's namespace and connect it to its node; packets flow when this returns."""
        self._make(netns_name := f"{self.prefix}-{name}")
        netns = self._made[netns_name]
        mac = "02:" + ":".join(f"{byte:02x}" for byte in hashlib.sha1(name.encode()).digest()[:5])  # noqa: S324
        peer = f"peer name eth0 netns {netns_name} address {mac}"
        ip([f"link add {interface} netns {node.netns.name} address {GATEWAY_MAC} type veth {peer}"])
        if self.dual_stack:
            netns.sysctl({"ipv6/conf/default/accept_dad": 0, "ipv6/conf/default/router_solicitations": 0})
        else:
            self._quiet(netns)
        node_side = [f"link set {interface} up", f"route add {address}/32 dev {interface} scope link"]
        pod_side = [
            f"addr add {address}/32 dev eth0",
            f"route add {GATEWAY} dev eth0 scope link",
            f"route add default via {GATEWAY} dev eth0",
        ]
        if self.dual_stack:
            address6 = node.ip6_of(address)
            node_side += [
                f"route add {address6}/128 dev {interface}",
                f"neigh replace {address6} lladdr {mac} dev {interface} nud permanent",
            ]
            pod_side += [
                f"addr add {address6}/128 dev eth0 nodad",
                f"neigh replace {GATEWAY6} lladdr {GATEWAY_MAC} dev eth0 nud permanent",
                f"route add default via {GATEWAY6} dev eth0",
            ]
        ip(node_side, node.netns)
        node.netns.sysctl({f"ipv4/conf/{interface}/proxy_arp": 1, f"ipv4/neigh/{interface}/proxy_delay": 0})
        ip(["link set lo up", "link set eth0 up"], netns)
        # Without this a pod's first ARP request is lost now and then, and its first second with it.
        node.netns.await_carrier(interface)
        netns.await_carrier("eth0")
        ip(pod_side, netns)
        with node.netns.inside():
            ifindex = socket.if_nametoindex(interface)
        return Link(netns, interface, ifindex)

    def detach(self, node: Node, link: Link) -> None:
        """Take a pod's interface away at once, then its namespace."""
        ip([f"link del {link.interface}"], node.netns)
        self._made.pop(link.netns.name)
        link.netns.close()
        ip([f"netns del {link.netns.name}"])

    def program(self, ports: list[DeliveredPort]) -> None:
        """Make every node deliver the Services' ports to these backends, and to nothing else."""
        for node in self.nodes:
            text = ruleset(ports, node.ip, node.pod_cidr, POD_RANGE)
            run(["nft", "-f", "-"], text, node.netns)

    def close(self) -> None:
        """Remove every namespace, and with them every interface and rule."""
        names = list(self._made)
        for namespace in self._made.values():
            namespace.close()
        self._made.clear()
        if names:
            run(["ip", "-force", "-batch", "-"], "".join(f"netns del {name}\n" for name in names))

    def _make(self, *names: str) -> None:
        ip(f"netns add {name}" for name in names)
        for name in names:
            self._made[name] = Namespace(name)

    def _quiet(self, netns: Namespace) -> None:
        netns.sysctl({"ipv6/conf/all/disable_ipv6": 1, "ipv6/conf/default/disable_ipv6": 1})

    def _uplink(self, netns: Namespace, name: str, address: str) -> None:
        if not self.dual_stack:
            self._quiet(netns)
        port = f"up-{hashlib.sha1(name.encode()).hexdigest()[:8]}"  # noqa: S324
        ip([f"link add {port} netns {self.underlay.name} type veth peer name eth0 netns {netns.name}"])
        ip([f"link set {port} master br0", f"link set {port} up"], self.underlay)
        ip(["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"], netns)
        netns.await_carrier("eth0")
        self.underlay.await_carrier(port)

    def _tunnel(self, near: Node, far: Node) -> None:
        lines = [
            f"neigh replace {far.tunnel_ip} lladdr {far.mac} dev {OVERLAY} nud permanent",
            f"route add {far.pod_cidr} via {far.tunnel_ip} dev {OVERLAY} onlink",
        ]
        if self.dual_stack:
            lines += [
                f"neigh replace {far.tunnel_ip6} lladdr {far.mac} dev {OVERLAY} nud permanent",
                f"route add {far.tunnel_ip6}/128 dev {OVERLAY}",
                f"route add {far.pod_cidr6} via {far.tunnel_ip6} dev {OVERLAY} onlink",
            ]
        ip(lines, near.netns)
        run(["bridge", "-batch", "-"], f"fdb append {far.mac} dev {OVERLAY} dst {far.ip}\n", near.netns)
