-- Names whose answers led to a pattern, and Services dialled on the way, each list as it was recorded.
SELECT DISTINCT
    source.name AS source,
    target.name AS destination,
    spoken.protocol AS protocol,
    spoken.port AS port,
    spoken.icmp_type AS icmp_type,
    spoken.icmp_code AS icmp_code,
    spoken.dns_names AS dns_names,
    spoken.service AS service
FROM (
    SELECT DISTINCT
        src_kind, src_key, dst_kind, dst_key, protocol, port, icmp_type, icmp_code, dns_names, service
    FROM identified
    WHERE dns = 1 OR service IS NOT NULL
) AS spoken
INNER JOIN ends AS source ON source.kind = spoken.src_kind AND source.id = spoken.src_key
INNER JOIN ends AS target ON target.kind = spoken.dst_kind AND target.id = spoken.dst_key
WHERE source.class = 'workload' OR target.class = 'workload'
