-- Who held an address that the recorder left to be resolved later: one holder over the row's time, or `ambiguous`.
WITH asked AS (
    SELECT src_ip AS ip, first_seen, last_seen FROM flows WHERE src_kind = 'deferred'
    UNION
    SELECT dst_ip AS ip, first_seen, last_seen FROM flows WHERE dst_kind = 'deferred'
)
SELECT
    asked.ip AS ip,
    asked.first_seen AS first_seen,
    asked.last_seen AS last_seen,
    CASE WHEN COUNT(DISTINCT addresses.holder) = 1 THEN MIN(addresses.kind) ELSE 'ambiguous' END AS kind,
    CASE WHEN COUNT(DISTINCT addresses.holder) = 1 THEN MIN(addresses.id) END AS id
FROM asked
INNER JOIN addresses
    ON addresses.ip = asked.ip
    AND addresses.held_from <= asked.last_seen
    AND addresses.held_until > asked.first_seen
GROUP BY asked.ip, asked.first_seen, asked.last_seen
