-- Flow rows whose ends are as well known as they can be: deferred ends resolved, dialled Services led to their backend.
SELECT
    flows.window_start AS window_start,
    flows.window_end AS window_end,
    CASE WHEN flows.first_seen < flows.window_start THEN flows.window_start ELSE flows.first_seen END AS first_seen,
    CASE WHEN flows.last_seen > flows.window_end THEN flows.window_end ELSE flows.last_seen END AS last_seen,
    flows.node AS node,
    flows.backend AS backend,
    flows.reporter AS reporter,
    CASE WHEN flows.src_kind = 'deferred' THEN COALESCE(source.kind, 'unresolved') ELSE flows.src_kind END AS src_kind,
    CASE
        WHEN flows.src_kind = 'deferred' THEN COALESCE(source.id, flows.src_ip)
        WHEN flows.src_kind IN ('pod', 'node') THEN COALESCE(flows.src_id, flows.src_ip)
        WHEN flows.src_kind = 'apiserver' THEN flows.src_kind
        ELSE flows.src_ip
    END AS src_key,
    flows.src_ip AS src_ip,
    CASE
        WHEN flows.dst_kind = 'deferred' THEN COALESCE(target.kind, 'unresolved')
        WHEN flows.dst_kind = 'service' AND routes.state = 'one' THEN 'routed'
        ELSE flows.dst_kind
    END AS dst_kind,
    CASE
        WHEN flows.dst_kind = 'deferred' THEN COALESCE(target.id, flows.dst_ip)
        WHEN flows.dst_kind = 'service' AND routes.state = 'one' THEN routes.workload
        WHEN flows.dst_kind IN ('pod', 'node', 'service') THEN COALESCE(flows.dst_id, flows.dst_ip)
        WHEN flows.dst_kind = 'apiserver' THEN flows.dst_kind
        ELSE flows.dst_ip
    END AS dst_key,
    flows.dst_ip AS dst_ip,
    flows.protocol AS protocol,
    COALESCE(CASE WHEN routes.state = 'one' THEN routes.target_port ELSE flows.dst_port END, -1) AS port,
    COALESCE(flows.icmp_type, -1) AS icmp_type,
    COALESCE(flows.icmp_code, -1) AS icmp_code,
    CASE WHEN routes.state = 'several' THEN 1 ELSE 0 END AS several,
    CASE
        WHEN flows.src_kind = 'deferred' AND source.id IS NULL THEN 1
        WHEN flows.dst_kind = 'deferred' AND target.id IS NULL THEN 1
        ELSE 0
    END AS lost,
    CASE WHEN flows.dst_kind = 'service' THEN flows.dst_id ELSE flows.service END AS service,
    flows.dns_names AS dns_names,
    flows.dns AS dns,
    flows.attempts AS attempts,
    flows.answered AS answered,
    flows.refused AS refused,
    flows.denied AS denied,
    flows.unanswered AS unanswered,
    flows.established AS established
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
LEFT JOIN routes
    ON flows.dst_kind = 'service'
    AND routes.service = flows.dst_id
    AND routes.protocol = flows.protocol
    AND routes.dst_port = flows.dst_port
    AND routes.window_start = flows.window_start
