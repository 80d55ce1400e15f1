-- Stretches in which at least one pod of a workload was watched.
SELECT workload, ring, MIN(watched_from) AS exposed_from, MAX(watched_until) AS exposed_until
FROM (
    SELECT
        workload,
        ring,
        watched_from,
        watched_until,
        SUM(fresh) OVER (
            PARTITION BY workload, ring
            ORDER BY watched_from ASC NULLS FIRST, watched_until ASC NULLS FIRST, uid ASC NULLS FIRST
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS stretch
    FROM (
        SELECT
            workload,
            uid,
            ring,
            watched_from,
            watched_until,
            CASE
                WHEN MAX(watched_until) OVER (
                    PARTITION BY workload, ring
                    ORDER BY watched_from ASC NULLS FIRST, watched_until ASC NULLS FIRST, uid ASC NULLS FIRST
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) >= watched_from
                    THEN 0
                ELSE 1
            END AS fresh
        FROM watched
    ) AS marked
) AS numbered
GROUP BY workload, ring, stretch
ORDER BY workload ASC NULLS FIRST, ring ASC NULLS FIRST, MIN(watched_from) ASC NULLS FIRST
