-- What was recorded, once per pair of ends, protocol and port: which halves are proven, and how many connections.
-- A `src` row proves the initiator's egress, a `dst` row the responder's ingress; where the other end's node cannot vouch for
-- the window, and for captures that cannot tell, a row stands for both. Counts are those of the initiator's node where that is
-- clean, else of the responder's, never their sum. An end that nobody is known to have held may be a pod: its half was
-- recorded, too, though only an answer shows that there was somebody to dial.
WITH pairs AS (
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
        BOOL_AND(COALESCE(snat_ip <> src_ip, FALSE)) AS translated,
        MIN(node) FILTER (reporter <> 'dst') AS seen_at,
        SUM(answered) FILTER (reporter <> 'dst') AS source_answered,
        SUM(attempts) FILTER (reporter <> 'dst') AS source_attempts,
        SUM(answered) FILTER (reporter = 'dst') AS target_answered,
        SUM(attempts) FILTER (reporter = 'dst') AS target_attempts,
        BOOL_OR(answered > 0 OR established > 0) AS lively
    FROM identified
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

vouched AS (
    SELECT places.node, places.ring, places.window_start, places.window_end
    FROM places
    INNER JOIN clean
        ON
            clean.node = places.node
            AND clean.ring = places.ring
            AND clean.window_start < places.window_end
            AND clean.window_end > places.window_start
    GROUP BY ALL
    HAVING
        SUM(LEAST(clean.window_end, places.window_end) - GREATEST(clean.window_start, places.window_start))
        >= places.window_end - places.window_start
),

sided AS (
    SELECT
        asked.*,
        near.node IS NOT NULL AS src_clean,
        asked.src_kind IN ('pod', 'unresolved', 'ambiguous', 'overflow') AS src_podlike,
        asked.dst_kind IN ('pod', 'unresolved', 'ambiguous', 'overflow', 'service') AS dst_podlike,
        asked.src_kind = 'pod' AND asked.dst_kind = 'pod' AND near.node IS NULL AND NOT asked.from_source AS lone_target,
        asked.src_kind = 'pod' AND asked.dst_kind = 'pod' AND far.node IS NULL AND NOT asked.from_target AS lone_source
    FROM asked
    LEFT JOIN vouched AS near
        ON
            near.node = asked.src_node
            AND near.ring = asked.ring
            AND near.window_start = asked.window_start
            AND near.window_end = asked.window_end
    LEFT JOIN vouched AS far
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
    BOOL_OR(src_podlike AND from_source OR lone_target) AS egress,
    BOOL_OR(dst_podlike AND (from_target OR from_either AND (dst_kind = 'pod' OR lively)) OR lone_source) AS ingress,
    BOOL_OR(src_podlike AND from_source) AS egress_seen,
    BOOL_OR(dst_podlike AND from_target) AS ingress_seen,
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
