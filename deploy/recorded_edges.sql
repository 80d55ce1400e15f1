-- The edges with their ends and connections as numbers, in that order.
SELECT
    source.number AS source,
    target.number AS destination,
    connections.number AS connection,
    edges.egress,
    edges.ingress,
    edges.egress_seen,
    edges.ingress_seen,
    edges.translated,
    edges.connections,
    edges.attempts,
    edges.lively,
    edges.first_seen,
    edges.last_seen
FROM edges
INNER JOIN ends AS source
    ON source.kind = edges.src_kind AND source.ip = edges.src_ip AND source.id IS NOT DISTINCT FROM edges.src_id
INNER JOIN ends AS target
    ON target.kind = edges.dst_kind AND target.ip = edges.dst_ip AND target.id IS NOT DISTINCT FROM edges.dst_id
INNER JOIN connections
    ON
        connections.protocol = edges.protocol
        AND connections.dst_port IS NOT DISTINCT FROM edges.dst_port
        AND connections.icmp_type IS NOT DISTINCT FROM edges.icmp_type
        AND connections.icmp_code IS NOT DISTINCT FROM edges.icmp_code
ORDER BY source, destination, connection
