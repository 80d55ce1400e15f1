-- Each end of a flow by its name in the contract, with the pod behind it where there is one. `number` and `pod_number`
-- stand for name and pod from here on, because integers are grouped in half the time of names.
WITH met AS (
    SELECT src_kind AS kind, src_key AS id, src_ip AS ip FROM added
    UNION ALL
    SELECT dst_kind AS kind, dst_key AS id, dst_ip AS ip FROM added
),

once AS (
    SELECT kind, id, MIN(ip) AS ip FROM met GROUP BY kind, id
),

named AS (
    SELECT
        once.kind AS kind,
        once.id AS id,
        CASE
            WHEN pods.workload IS NOT NULL THEN pods.workload
            WHEN once.kind = 'routed' THEN once.id
            WHEN once.kind = 'node' THEN 'node/' || once.id
            WHEN once.kind = 'apiserver' THEN once.kind
            WHEN once.kind = 'service' AND once.id LIKE '%/%'
                THEN SUBSTRING(once.id, 1, POSITION('/' IN once.id)) || 'service/'
                || SUBSTRING(once.id, POSITION('/' IN once.id) + 1)
            WHEN once.kind IN ('pod', 'service', 'unresolved') THEN 'unresolved/' || once.ip
            WHEN once.kind IN ('ambiguous', 'overflow') THEN 'ambiguous/' || once.ip
            WHEN once.ip LIKE '%/%' THEN once.ip
            WHEN once.ip LIKE '%:%' THEN once.ip || '/128'
            ELSE once.ip || '/32'
        END AS name,
        CASE
            WHEN pods.workload IS NOT NULL OR once.kind = 'routed' THEN 'workload'
            WHEN once.kind = 'pod' THEN 'unresolved'
            WHEN once.kind = 'service' AND once.id NOT LIKE '%/%' THEN 'unresolved'
            WHEN once.kind = 'overflow' THEN 'ambiguous'
            ELSE once.kind
        END AS class,
        pods.uid AS pod,
        pods.node AS node,
        pods.tainted_from AS tainted_from
    FROM once
    LEFT JOIN pods ON once.kind = 'pod' AND pods.id = once.id
)

SELECT
    named.*,
    DENSE_RANK() OVER (ORDER BY name ASC NULLS FIRST, class ASC NULLS FIRST) AS number,
    CASE WHEN pod IS NOT NULL THEN DENSE_RANK() OVER (ORDER BY pod ASC NULLS FIRST) END AS pod_number
FROM named
