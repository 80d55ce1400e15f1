-- The windows in which a node's record can be trusted, per ring (`tcp`, `udp`), and `all` where every ring can.
WITH answers AS (
    SELECT
        node,
        backend,
        CASE WHEN protocol = 'udp' THEN 'udp' ELSE 'tcp' END AS ring,
        window_start,
        CAST(SUM(answered) AS BIGINT) AS answered,
        CAST(SUM(CASE WHEN lost = 1 THEN answered ELSE 0 END) AS BIGINT) AS lost
    FROM identified
    GROUP BY node, backend, CASE WHEN protocol = 'udp' THEN 'udp' ELSE 'tcp' END, window_start
),

covered AS (
    SELECT
        node,
        backend,
        ring,
        window_start,
        MAX(window_end) AS window_end,
        CAST(SUM(packets) AS BIGINT) AS packets,
        CAST(SUM(dropped) AS BIGINT) AS dropped,
        CAST(SUM(unresolved + ambiguous) AS BIGINT) AS unknown,
        MAX(watch_lag_seconds) AS lag,
        MAX(gap) AS gap,
        MAX(partial) AS partial
    FROM coverage
    WHERE ring IN ('tcp', 'udp')
    GROUP BY node, backend, ring, window_start
),

judged AS (
    SELECT
        covered.node AS node,
        covered.ring AS ring,
        covered.window_start AS window_start,
        MAX(covered.window_end) AS window_end,
        MAX(
            CASE
                WHEN covered.gap = 0
                    AND covered.partial = 0
                    AND covered.dropped <= settings.dropped_share * covered.packets
                    AND covered.unknown + COALESCE(answers.lost, 0)
                    <= settings.unknown_share * COALESCE(answers.answered, 0)
                    AND COALESCE(covered.lag, 0) <= settings.lag_seconds
                    THEN 1
                ELSE 0
            END
        ) AS clean
    FROM covered
    CROSS JOIN settings
    LEFT JOIN answers
        ON answers.node = covered.node
        AND answers.backend = covered.backend
        AND answers.ring = covered.ring
        AND answers.window_start = covered.window_start
    GROUP BY covered.node, covered.ring, covered.window_start
)

SELECT node, ring, window_start, window_end
FROM judged
WHERE clean = 1
UNION ALL
SELECT node, 'all' AS ring, window_start, MAX(window_end) AS window_end
FROM judged
GROUP BY node, window_start
HAVING MIN(clean) = 1
