-- Edges between workloads and peers, with what each row may be used for.
SELECT
    added.window_start AS window_start,
    added.reporter AS reporter,
    source.number AS source,
    source.class AS source_kind,
    source.pod_number AS source_pod,
    target.number AS destination,
    target.class AS destination_kind,
    target.pod_number AS destination_pod,
    added.protocol AS protocol,
    added.port AS port,
    added.icmp_type AS icmp_type,
    added.icmp_code AS icmp_code,
    added.first_seen AS first_seen,
    added.last_seen AS last_seen,
    CASE WHEN added.dst_kind = 'routed' THEN 1 ELSE 0 END AS routed,
    added.several AS several,
    added.dns AS dns,
    CASE
        WHEN added.dns = 1 OR added.served = 1 THEN 1
        WHEN source.class <> 'workload' OR target.class <> 'workload' THEN 1
        ELSE 0
    END AS named,
    CASE
        WHEN added.window_end > source.tainted_from THEN 1
        WHEN added.window_end > target.tainted_from THEN 1
        ELSE 0
    END AS tainted,
    CASE WHEN near.node IS NOT NULL THEN 1 ELSE 0 END AS source_clean,
    CASE WHEN far.node IS NOT NULL THEN 1 ELSE 0 END AS destination_clean,
    added.attempts AS attempts,
    added.answered AS answered,
    added.refused AS refused,
    added.denied AS denied,
    added.unanswered AS unanswered,
    added.established AS established
FROM added
INNER JOIN ends AS source ON source.kind = added.src_kind AND source.id = added.src_key
INNER JOIN ends AS target ON target.kind = added.dst_kind AND target.id = added.dst_key
LEFT JOIN clean AS near
    ON near.node = source.node
    AND near.ring = CASE WHEN added.protocol = 'udp' THEN 'udp' ELSE 'tcp' END
    AND near.window_start = added.window_start
LEFT JOIN clean AS far
    ON far.node = target.node
    AND far.ring = CASE WHEN added.protocol = 'udp' THEN 'udp' ELSE 'tcp' END
    AND far.window_start = added.window_start
WHERE source.class = 'workload' OR target.class = 'workload'
