-- Stretches of time in which a node's record is clean without a break.
SELECT node, ring, MIN(window_start) AS run_from, MAX(window_end) AS run_until
FROM (
    SELECT
        node,
        ring,
        window_start,
        window_end,
        SUM(fresh) OVER (
            PARTITION BY node, ring
            ORDER BY window_start ASC NULLS FIRST
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS run
    FROM (
        SELECT
            node,
            ring,
            window_start,
            window_end,
            CASE
                WHEN LAG(window_end) OVER (PARTITION BY node, ring ORDER BY window_start ASC NULLS FIRST) = window_start
                    THEN 0
                ELSE 1
            END AS fresh
        FROM clean
    ) AS marked
) AS numbered
GROUP BY node, ring, run
