-- What was recorded, once per pair of ends, protocol and port: which halves are proven, and how many connections.
-- A `src` row proves the initiator's egress, a `dst` row the responder's ingress; where the other end's node cannot vouch for
-- the window, and for captures that cannot tell, a row stands for both. Counts are those of the initiator's node where that is
-- clean, else of the responder's, never their sum.
WITH holders AS (
    SELECT
        asked.ip,
        asked.at,
        CASE WHEN COUNT(DISTINCT addresses.holder) = 1 THEN MIN(addresses.kind) ELSE 'ambiguous' END AS kind,
        CASE WHEN COUNT(DISTINCT addresses.holder) = 1 THEN MIN(addresses.id) END AS id
    FROM (
        SELECT src_ip AS ip, first_seen AS at FROM flows WHERE src_kind = 'deferred'
        UNION
        SELECT dst_ip AS ip, first_seen AS at FROM flows WHERE dst_kind = 'deferred'
    ) AS asked
    INNER JOIN addresses
        ON addresses.ip = asked.ip AND addresses.start <= epoch_us(asked.at) AND addresses.stop > epoch_us(asked.at)
    GROUP BY asked.ip, asked.at
),

seen AS (
    SELECT
        flows.* EXCLUDE (src_kind, src_id, dst_kind, dst_id, window_start, window_end, first_seen, last_seen),
        epoch_us(flows.window_start) AS window_start,
        epoch_us(flows.window_end) AS window_end,
        epoch_us(flows.first_seen) AS first_seen,
        epoch_us(flows.last_seen) AS last_seen,
        CASE WHEN flows.protocol = 'udp' THEN 'udp' ELSE 'tcp' END AS ring,
        CASE WHEN src_kind = 'deferred' THEN COALESCE(source.kind, 'unresolved') ELSE src_kind END AS src_kind,
        CASE WHEN src_kind = 'deferred' THEN source.id ELSE src_id END AS src_id,
        CASE WHEN dst_kind = 'deferred' THEN COALESCE(target.kind, 'unresolved') ELSE dst_kind END AS dst_kind,
        CASE WHEN dst_kind = 'deferred' THEN target.id ELSE dst_id END AS dst_id,
        COALESCE(snat_ip <> src_ip, FALSE) AS translated
    FROM flows
    LEFT JOIN holders AS source
        ON flows.src_kind = 'deferred' AND source.ip = flows.src_ip AND source.at = flows.first_seen
    LEFT JOIN holders AS target
        ON flows.dst_kind = 'deferred' AND target.ip = flows.dst_ip AND target.at = flows.first_seen
),

answers AS (
    SELECT node, ring, backend, window_start, SUM(answered) AS answered
    FROM seen
    GROUP BY ALL
),

vouched AS (
    SELECT coverage.node, coverage.ring, coverage.window_start, MAX(coverage.window_end) AS window_end
    FROM coverage
    LEFT JOIN answers USING (node, ring, backend, window_start)
    WHERE
        coverage.whole
        AND coverage.dropped <= 0.0001 * coverage.packets
        AND coverage.unknown <= 0.01 * COALESCE(answers.answered, 0)
    GROUP BY coverage.node, coverage.ring, coverage.window_start
),

pairs AS (
    SELECT
        src_kind,
        src_ip,
        src_id,
        dst_kind,
        dst_ip,
        dst_id,
        protocol,
        dst_port,
        icmp_type,
        icmp_code,
        ring,
        window_start,
        window_end,
        MIN(first_seen) AS first_seen,
        MAX(last_seen) AS last_seen,
        BOOL_OR(reporter <> 'dst') AS from_source,
        BOOL_OR(reporter = 'dst') AS from_target,
        BOOL_OR(reporter = 'unknown') AS from_either,
        BOOL_AND(translated) AS translated,
        ANY_VALUE(node) FILTER (reporter <> 'dst') AS seen_at,
        SUM(answered) FILTER (reporter <> 'dst') AS source_answered,
        SUM(attempts) FILTER (reporter <> 'dst') AS source_attempts,
        SUM(answered) FILTER (reporter = 'dst') AS target_answered,
        SUM(attempts) FILTER (reporter = 'dst') AS target_attempts,
        BOOL_OR(answered > 0 OR COALESCE(open, 0) > 0) AS lively
    FROM seen
    GROUP BY ALL
),

asked AS (
    SELECT
        pairs.*,
        COALESCE(source.node, pairs.seen_at) AS src_node,
        target.node AS dst_node
    FROM pairs
    LEFT JOIN pods AS source ON pairs.src_kind = 'pod' AND source.id = pairs.src_id
    LEFT JOIN pods AS target ON pairs.dst_kind = 'pod' AND target.id = pairs.dst_id
),

places AS (
    SELECT src_node AS node, ring, window_start, window_end FROM asked
    UNION
    SELECT dst_node AS node, ring, window_start, window_end FROM asked
),

clean AS (
    SELECT places.node, places.ring, places.window_start, places.window_end
    FROM places
    INNER JOIN vouched
        ON
            vouched.node = places.node
            AND vouched.ring = places.ring
            AND vouched.window_start < places.window_end
            AND vouched.window_end > places.window_start
    GROUP BY ALL
    HAVING
        SUM(
            LEAST(vouched.window_end, places.window_end) - GREATEST(vouched.window_start, places.window_start)
        ) >= places.window_end - places.window_start
),

sided AS (
    SELECT
        asked.*,
        near.node IS NOT NULL AS src_clean,
        asked.src_kind = 'pod' AND asked.dst_kind = 'pod' AND near.node IS NULL AND NOT asked.from_source AS lone_target,
        asked.src_kind = 'pod' AND asked.dst_kind = 'pod' AND far.node IS NULL AND NOT asked.from_target AS lone_source
    FROM asked
    LEFT JOIN clean AS near
        ON
            near.node = asked.src_node
            AND near.ring = asked.ring
            AND near.window_start = asked.window_start
            AND near.window_end = asked.window_end
    LEFT JOIN clean AS far
        ON
            far.node = asked.dst_node
            AND far.ring = asked.ring
            AND far.window_start = asked.window_start
            AND far.window_end = asked.window_end
)

SELECT
    src_kind,
    src_ip,
    src_id,
    dst_kind,
    dst_ip,
    dst_id,
    protocol,
    dst_port,
    icmp_type,
    icmp_code,
    BOOL_OR(src_kind = 'pod' AND (from_source OR lone_target)) AS egress,
    BOOL_OR(dst_kind = 'pod' AND (from_target OR from_either OR lone_source)) AS ingress,
    BOOL_OR(src_kind = 'pod' AND from_source) AS egress_seen,
    BOOL_OR(dst_kind = 'pod' AND from_target) AS ingress_seen,
    BOOL_AND(translated) AS translated,
    CAST(SUM(
        CASE WHEN from_source AND (src_clean OR NOT from_target) THEN source_answered ELSE target_answered END
    ) AS BIGINT) AS connections,
    CAST(SUM(
        CASE WHEN from_source AND (src_clean OR NOT from_target) THEN source_attempts ELSE target_attempts END
    ) AS BIGINT) AS attempts,
    BOOL_OR(lively) AS lively,
    MIN(first_seen) AS first_seen,
    MAX(last_seen) AS last_seen
FROM sided
GROUP BY ALL
ORDER BY ALL
