-- The distinct ends of the edges, numbered in the order of their text.
SELECT
    CAST(ROW_NUMBER() OVER (ORDER BY kind, ip, id NULLS FIRST) - 1 AS BIGINT) AS number,
    kind,
    ip,
    id
FROM (
    SELECT src_kind AS kind, src_ip AS ip, src_id AS id FROM edges
    UNION
    SELECT dst_kind AS kind, dst_ip AS ip, dst_id AS id FROM edges
) AS found
ORDER BY number
