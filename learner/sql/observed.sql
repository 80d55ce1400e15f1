-- One row per pattern: all that the evidence gate asks about it.
WITH totals AS (
    SELECT
        moments.source AS source_number,
        moments.destination AS destination_number,
        moments.protocol AS protocol,
        moments.port AS port,
        moments.icmp_type AS icmp_type,
        moments.icmp_code AS icmp_code,
        CAST(SUM(moments.attempts) AS BIGINT) AS attempts,
        CAST(SUM(moments.answered) AS BIGINT) AS answered,
        CAST(SUM(moments.refused) AS BIGINT) AS refused,
        CAST(SUM(moments.denied) AS BIGINT) AS denied,
        CAST(SUM(moments.unanswered) AS BIGINT) AS unanswered,
        CAST(SUM(moments.established) AS BIGINT) AS established,
        MIN(moments.first_seen) AS first_seen,
        MAX(moments.last_seen) AS last_seen,
        MAX(moments.several) AS several,
        MAX(moments.routed) AS routed,
        MAX(moments.egress) AS egress,
        MAX(moments.ingress) AS ingress,
        MAX(moments.lent_egress) AS lent_egress,
        MAX(moments.lent_ingress) AS lent_ingress,
        MAX(moments.tainted) AS tainted,
        CAST(SUM(moments.seen) AS BIGINT) AS windows_seen,
        COUNT(
            DISTINCT CASE WHEN moments.seen = 1 THEN moments.window_start - MOD(moments.window_start, settings.day) END
        ) AS days,
        CAST(SUM(moments.sound) AS BIGINT) AS sound_windows,
        COUNT(
            DISTINCT CASE WHEN moments.sound = 1 THEN moments.window_start - MOD(moments.window_start, settings.day) END
        ) AS sound_days,
        CAST(SUM(moments.named) AS BIGINT) AS named_windows,
        COALESCE(
            MAX(CASE WHEN moments.named = 1 THEN moments.window_start END)
            - MIN(CASE WHEN moments.named = 1 THEN moments.window_start END),
            0
        ) AS named_span,
        CAST(SUM(moments.dns) AS BIGINT) AS dns_windows,
        COALESCE(
            MAX(CASE WHEN moments.dns = 1 THEN moments.window_start END)
            - MIN(CASE WHEN moments.dns = 1 THEN moments.window_start END),
            0
        ) AS dns_span,
        COUNT(
            DISTINCT CASE WHEN moments.seen = 1 THEN moments.window_start - MOD(moments.window_start, settings.unit) END
        ) AS units,
        MIN(CASE WHEN moments.seen = 1 THEN moments.window_start - MOD(moments.window_start, settings.unit) END)
            AS first_unit
    FROM moments
    CROSS JOIN settings
    GROUP BY
        moments.source,
        moments.destination,
        moments.protocol,
        moments.port,
        moments.icmp_type,
        moments.icmp_code
),

recurring AS (
    SELECT DISTINCT source, destination, protocol, port, icmp_type, icmp_code FROM pairs
)

SELECT
    near.name AS source,
    near.class AS source_kind,
    far.name AS destination,
    far.class AS destination_kind,
    totals.*,
    CASE WHEN recurring.source IS NOT NULL THEN 1 ELSE 0 END AS pair_recurs,
    COALESCE(replicas.showing, 0) AS replicas_seen,
    COALESCE(replicas.together, 0) AS together,
    COALESCE(replicas.steady, 0) AS steady,
    COALESCE(gaps.gaps, 0) AS gaps,
    COALESCE(gaps.total, 0) AS gaps_total,
    COALESCE(gaps.squares, 0) AS gaps_squares
FROM totals
INNER JOIN peers AS near ON near.number = totals.source_number
INNER JOIN peers AS far ON far.number = totals.destination_number
LEFT JOIN recurring
    ON recurring.source = totals.source_number
    AND recurring.destination = totals.destination_number
    AND recurring.protocol = totals.protocol
    AND recurring.port = totals.port
    AND recurring.icmp_type = totals.icmp_type
    AND recurring.icmp_code = totals.icmp_code
LEFT JOIN replicas
    ON replicas.source = totals.source_number
    AND replicas.destination = totals.destination_number
    AND replicas.protocol = totals.protocol
    AND replicas.port = totals.port
    AND replicas.icmp_type = totals.icmp_type
    AND replicas.icmp_code = totals.icmp_code
LEFT JOIN gaps
    ON gaps.source = totals.source_number
    AND gaps.destination = totals.destination_number
    AND gaps.protocol = totals.protocol
    AND gaps.port = totals.port
    AND gaps.icmp_type = totals.icmp_type
    AND gaps.icmp_code = totals.icmp_code
ORDER BY
    near.name ASC NULLS FIRST,
    far.name ASC NULLS FIRST,
    totals.protocol ASC NULLS FIRST,
    totals.port ASC NULLS FIRST,
    totals.icmp_type ASC NULLS FIRST,
    totals.icmp_code ASC NULLS FIRST
