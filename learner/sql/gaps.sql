-- Sums over the gaps between a pattern's windows, in seconds: enough for their mean and spread, in exact integers.
SELECT
    source,
    destination,
    protocol,
    port,
    icmp_type,
    icmp_code,
    COUNT(*) AS gaps,
    CAST(SUM(gap) AS BIGINT) AS total,
    CAST(SUM(gap * gap) AS BIGINT) AS squares
FROM (
    SELECT
        source,
        destination,
        protocol,
        port,
        icmp_type,
        icmp_code,
        CAST(
            (
                window_start - LAG(window_start) OVER (
                    PARTITION BY source, destination, protocol, port, icmp_type, icmp_code
                    ORDER BY window_start ASC NULLS FIRST
                )
            ) / 1000000 AS BIGINT
        ) AS gap
    FROM moments
    WHERE seen = 1
) AS spaced
WHERE gap IS NOT NULL
GROUP BY source, destination, protocol, port, icmp_type, icmp_code
