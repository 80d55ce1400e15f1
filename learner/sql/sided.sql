-- One row per window, source pod and pattern: counts from the side that can be trusted, never from both.
WITH sides AS (
    SELECT
        window_start,
        source,
        COALESCE(source_pod, -1) AS source_pod,
        destination,
        protocol,
        port,
        icmp_type,
        icmp_code,
        CASE
            WHEN MAX(CASE WHEN reporter = 'src' THEN 1 + source_clean ELSE 0 END) = 2 THEN 'src'
            WHEN MAX(CASE WHEN reporter = 'dst' THEN 1 ELSE 0 END) = 1 THEN 'dst'
            WHEN MAX(CASE WHEN reporter = 'src' THEN 1 ELSE 0 END) = 1 THEN 'src'
            ELSE 'unknown'
        END AS side,
        MIN(first_seen) AS first_seen,
        MAX(last_seen) AS last_seen,
        MAX(several) AS several,
        MAX(routed) AS routed,
        MAX(CASE WHEN reporter IN ('src', 'unknown') AND source_kind = 'workload' THEN 1 ELSE 0 END) AS egress,
        MAX(CASE WHEN reporter IN ('dst', 'unknown') AND destination_kind = 'workload' THEN 1 ELSE 0 END) AS ingress,
        MAX(
            CASE
                WHEN reporter = 'dst' AND source_pod IS NOT NULL AND destination_pod IS NOT NULL AND source_clean = 0
                    THEN 1
                ELSE 0
            END
        ) AS lent_egress,
        MAX(
            CASE
                WHEN reporter = 'src' AND source_pod IS NOT NULL AND destination_pod IS NOT NULL
                    AND destination_clean = 0
                    THEN 1
                ELSE 0
            END
        ) AS lent_ingress,
        MAX(CASE WHEN tainted = 1 AND answered + established > 0 THEN 1 ELSE 0 END) AS tainted,
        MAX(CASE WHEN tainted = 0 AND answered + established > 0 THEN 1 ELSE 0 END) AS sound,
        MAX(CASE WHEN tainted = 0 AND answered + established > 0 THEN named ELSE 0 END) AS named,
        MAX(CASE WHEN tainted = 0 AND answered + established > 0 THEN dns ELSE 0 END) AS dns,
        CAST(SUM(CASE WHEN reporter = 'src' THEN attempts ELSE 0 END) AS BIGINT) AS src_attempts,
        CAST(SUM(CASE WHEN reporter = 'src' THEN answered ELSE 0 END) AS BIGINT) AS src_answered,
        CAST(SUM(CASE WHEN reporter = 'src' THEN refused ELSE 0 END) AS BIGINT) AS src_refused,
        CAST(SUM(CASE WHEN reporter = 'src' THEN denied ELSE 0 END) AS BIGINT) AS src_denied,
        CAST(SUM(CASE WHEN reporter = 'src' THEN unanswered ELSE 0 END) AS BIGINT) AS src_unanswered,
        CAST(SUM(CASE WHEN reporter = 'src' THEN established ELSE 0 END) AS BIGINT) AS src_established,
        CAST(SUM(CASE WHEN reporter = 'dst' THEN attempts ELSE 0 END) AS BIGINT) AS dst_attempts,
        CAST(SUM(CASE WHEN reporter = 'dst' THEN answered ELSE 0 END) AS BIGINT) AS dst_answered,
        CAST(SUM(CASE WHEN reporter = 'dst' THEN refused ELSE 0 END) AS BIGINT) AS dst_refused,
        CAST(SUM(CASE WHEN reporter = 'dst' THEN denied ELSE 0 END) AS BIGINT) AS dst_denied,
        CAST(SUM(CASE WHEN reporter = 'dst' THEN unanswered ELSE 0 END) AS BIGINT) AS dst_unanswered,
        CAST(SUM(CASE WHEN reporter = 'dst' THEN established ELSE 0 END) AS BIGINT) AS dst_established,
        CAST(SUM(CASE WHEN reporter = 'unknown' THEN attempts ELSE 0 END) AS BIGINT) AS any_attempts,
        CAST(SUM(CASE WHEN reporter = 'unknown' THEN answered ELSE 0 END) AS BIGINT) AS any_answered,
        CAST(SUM(CASE WHEN reporter = 'unknown' THEN refused ELSE 0 END) AS BIGINT) AS any_refused,
        CAST(SUM(CASE WHEN reporter = 'unknown' THEN denied ELSE 0 END) AS BIGINT) AS any_denied,
        CAST(SUM(CASE WHEN reporter = 'unknown' THEN unanswered ELSE 0 END) AS BIGINT) AS any_unanswered,
        CAST(SUM(CASE WHEN reporter = 'unknown' THEN established ELSE 0 END) AS BIGINT) AS any_established
    FROM resolved
    GROUP BY
        window_start,
        source,
        COALESCE(source_pod, -1),
        destination,
        protocol,
        port,
        icmp_type,
        icmp_code
)

SELECT
    window_start,
    source,
    source_pod,
    destination,
    protocol,
    port,
    icmp_type,
    icmp_code,
    first_seen,
    last_seen,
    several,
    routed,
    egress,
    ingress,
    lent_egress,
    lent_ingress,
    tainted,
    sound,
    named,
    dns,
    CASE side WHEN 'src' THEN src_attempts WHEN 'dst' THEN dst_attempts ELSE any_attempts END AS attempts,
    CASE side WHEN 'src' THEN src_answered WHEN 'dst' THEN dst_answered ELSE any_answered END AS answered,
    CASE side WHEN 'src' THEN src_refused WHEN 'dst' THEN dst_refused ELSE any_refused END AS refused,
    CASE side WHEN 'src' THEN src_denied WHEN 'dst' THEN dst_denied ELSE any_denied END AS denied,
    CASE side WHEN 'src' THEN src_unanswered WHEN 'dst' THEN dst_unanswered ELSE any_unanswered END AS unanswered,
    CASE side WHEN 'src' THEN src_established WHEN 'dst' THEN dst_established ELSE any_established END AS established
FROM sides
