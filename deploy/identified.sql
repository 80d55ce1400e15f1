-- Flow rows whose ends are as well known as they can be: deferred ends resolved by who held the address meanwhile.
SELECT
    flows.* EXCLUDE (src_kind, src_id, dst_kind, dst_id),
    CASE WHEN flows.protocol = 'udp' THEN 'udp' ELSE 'tcp' END AS ring,
    CASE WHEN flows.src_kind = 'deferred' THEN COALESCE(source.kind, 'unresolved') ELSE flows.src_kind END AS src_kind,
    CASE WHEN flows.src_kind = 'deferred' THEN source.id ELSE flows.src_id END AS src_id,
    CASE WHEN flows.dst_kind = 'deferred' THEN COALESCE(target.kind, 'unresolved') ELSE flows.dst_kind END AS dst_kind,
    CASE WHEN flows.dst_kind = 'deferred' THEN target.id ELSE flows.dst_id END AS dst_id,
    CASE
        WHEN flows.src_kind = 'deferred' AND source.id IS NULL THEN 1
        WHEN flows.dst_kind = 'deferred' AND target.id IS NULL THEN 1
        ELSE 0
    END AS lost
FROM flows
LEFT JOIN holders AS source
    ON flows.src_kind = 'deferred'
    AND source.ip = flows.src_ip
    AND source.first_seen = flows.first_seen
    AND source.last_seen = flows.last_seen
LEFT JOIN holders AS target
    ON flows.dst_kind = 'deferred'
    AND target.ip = flows.dst_ip
    AND target.first_seen = flows.first_seen
    AND target.last_seen = flows.last_seen
