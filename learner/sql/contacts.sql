-- The first contact of each source with each (destination, protocol, port), and whether it was answered in that window.
WITH firsts AS (
    SELECT source, destination, protocol, port, MIN(window_start) AS window_start
    FROM moments
    GROUP BY source, destination, protocol, port
)

SELECT
    near.name AS source,
    far.name AS destination,
    moments.protocol AS protocol,
    moments.port AS port,
    MIN(moments.first_seen) AS first_seen,
    MAX(moments.seen) AS answered
FROM moments
INNER JOIN firsts
    ON firsts.source = moments.source
    AND firsts.destination = moments.destination
    AND firsts.protocol = moments.protocol
    AND firsts.port = moments.port
    AND firsts.window_start = moments.window_start
INNER JOIN peers AS near ON near.number = moments.source
INNER JOIN peers AS far ON far.number = moments.destination
WHERE near.class <> 'node' AND moments.attempts + moments.established > 0
GROUP BY near.name, far.name, moments.protocol, moments.port
ORDER BY
    near.name ASC NULLS FIRST,
    MIN(moments.first_seen) ASC NULLS FIRST,
    far.name ASC NULLS FIRST,
    moments.protocol ASC NULLS FIRST,
    moments.port ASC NULLS FIRST
