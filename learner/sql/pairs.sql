-- Pairs of pods that kept talking: a bare address dialled again by the same pod and answered by the same pod.
SELECT DISTINCT
    recurring.source AS source,
    recurring.source_pod AS source_pod,
    recurring.destination AS destination,
    recurring.protocol AS protocol,
    recurring.port AS port,
    recurring.icmp_type AS icmp_type,
    recurring.icmp_code AS icmp_code
FROM (
    SELECT
        resolved.source AS source,
        resolved.source_pod AS source_pod,
        resolved.destination AS destination,
        resolved.destination_pod AS destination_pod,
        resolved.protocol AS protocol,
        resolved.port AS port,
        resolved.icmp_type AS icmp_type,
        resolved.icmp_code AS icmp_code
    FROM resolved
    CROSS JOIN settings
    WHERE resolved.tainted = 0
        AND resolved.answered + resolved.established > 0
        AND resolved.source_pod IS NOT NULL
        AND resolved.destination_pod IS NOT NULL
    GROUP BY
        resolved.source,
        resolved.source_pod,
        resolved.destination,
        resolved.destination_pod,
        resolved.protocol,
        resolved.port,
        resolved.icmp_type,
        resolved.icmp_code
    HAVING COUNT(DISTINCT resolved.window_start) >= MAX(settings.windows)
        AND MAX(resolved.window_start) - MIN(resolved.window_start) >= MAX(settings.apart)
) AS recurring
