-- The distinct connections of the edges: protocol, port, ICMP type and code, numbered in their order.
SELECT
    CAST(ROW_NUMBER() OVER (
        ORDER BY protocol, dst_port NULLS FIRST, icmp_type NULLS FIRST, icmp_code NULLS FIRST
    ) - 1 AS BIGINT) AS number,
    protocol,
    dst_port,
    icmp_type,
    icmp_code
FROM (SELECT DISTINCT protocol, dst_port, icmp_type, icmp_code FROM edges) AS found
ORDER BY number
