-- How many pods of the source showed a pattern, and how many of them lived at the same time as another that did.
WITH showing AS (
    SELECT
        sided.source AS source,
        sided.source_pod AS source_pod,
        sided.destination AS destination,
        sided.protocol AS protocol,
        sided.port AS port,
        sided.icmp_type AS icmp_type,
        sided.icmp_code AS icmp_code,
        MAX(sided.sound) AS sound,
        CASE
            WHEN MAX(CASE WHEN pairs.source_pod IS NOT NULL THEN 1 ELSE 0 END) = 1 THEN 1
            WHEN CAST(SUM(sided.named) AS BIGINT) >= MAX(settings.windows)
                AND MAX(CASE WHEN sided.named = 1 THEN sided.window_start END)
                - MIN(CASE WHEN sided.named = 1 THEN sided.window_start END) >= MAX(settings.apart)
                THEN 1
            ELSE 0
        END AS recurs
    FROM sided
    CROSS JOIN settings
    LEFT JOIN pairs
        ON pairs.source = sided.source
        AND pairs.source_pod = sided.source_pod
        AND pairs.destination = sided.destination
        AND pairs.protocol = sided.protocol
        AND pairs.port = sided.port
        AND pairs.icmp_type = sided.icmp_type
        AND pairs.icmp_code = sided.icmp_code
    WHERE sided.source_pod <> -1 AND (sided.sound = 1 OR sided.tainted = 1)
    GROUP BY
        sided.source,
        sided.source_pod,
        sided.destination,
        sided.protocol,
        sided.port,
        sided.icmp_type,
        sided.icmp_code
),

neighbours AS (
    SELECT
        showing.*,
        lives.batch AS batch,
        lives.held_from AS held_from,
        lives.held_until AS held_until,
        MAX(lives.held_until) OVER (
            PARTITION BY source, destination, protocol, port, icmp_type, icmp_code, sound, recurs
            ORDER BY lives.held_from ASC NULLS FIRST, showing.source_pod ASC NULLS FIRST
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS kin_until,
        MIN(lives.held_from) OVER (
            PARTITION BY source, destination, protocol, port, icmp_type, icmp_code, sound, recurs
            ORDER BY lives.held_from ASC NULLS FIRST, showing.source_pod ASC NULLS FIRST
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS kin_from,
        MAX(lives.held_until) OVER (
            PARTITION BY source, destination, protocol, port, icmp_type, icmp_code, sound
            ORDER BY lives.held_from ASC NULLS FIRST, showing.source_pod ASC NULLS FIRST
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS any_until,
        MIN(lives.held_from) OVER (
            PARTITION BY source, destination, protocol, port, icmp_type, icmp_code, sound
            ORDER BY lives.held_from ASC NULLS FIRST, showing.source_pod ASC NULLS FIRST
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS any_from
    FROM showing
    INNER JOIN (SELECT DISTINCT pod, pod_number FROM ends WHERE pod IS NOT NULL) AS faces
        ON faces.pod_number = showing.source_pod
    INNER JOIN lives ON lives.uid = faces.pod
)

SELECT
    source,
    destination,
    protocol,
    port,
    icmp_type,
    icmp_code,
    COUNT(*) AS showing,
    CAST(
        SUM(
            CASE WHEN sound = 1 AND (batch = 1 OR any_until > held_from OR any_from < held_until) THEN 1 ELSE 0 END
        ) AS BIGINT
    ) AS together,
    CAST(
        SUM(
            CASE
                WHEN sound = 1 AND recurs = 1 AND (batch = 1 OR kin_until > held_from OR kin_from < held_until) THEN 1
                ELSE 0
            END
        ) AS BIGINT
    ) AS steady
FROM neighbours
GROUP BY source, destination, protocol, port, icmp_type, icmp_code
