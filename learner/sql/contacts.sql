-- The first contact of each source with each (destination, protocol, port), and whether it was answered in that window.
WITH firsts AS (
    SELECT source, destination, protocol, port, MIN(window_start) AS window_start
    FROM moments
    GROUP BY source, destination, protocol, port
)

SELECT
    moments.source AS source,
    moments.destination AS destination,
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
WHERE moments.source_kind <> 'node' AND moments.attempts + moments.established > 0
GROUP BY moments.source, moments.destination, moments.protocol, moments.port
ORDER BY
    moments.source ASC NULLS FIRST,
    MIN(moments.first_seen) ASC NULLS FIRST,
    moments.destination ASC NULLS FIRST,
    moments.protocol ASC NULLS FIRST,
    moments.port ASC NULLS FIRST
