-- Stretches in which a pod ran on a node whose record is clean, widened to whole windows.
SELECT
    pods.workload AS workload,
    pods.uid AS uid,
    runs.ring AS ring,
    CASE
        WHEN pods.held_from > runs.run_from THEN pods.held_from - MOD(pods.held_from, settings.grid)
        ELSE runs.run_from
    END AS watched_from,
    CASE
        WHEN pods.held_until < runs.run_until
            THEN pods.held_until + MOD(settings.grid - MOD(pods.held_until, settings.grid), settings.grid)
        ELSE runs.run_until
    END AS watched_until
FROM pods
INNER JOIN runs
    ON runs.node = pods.node AND runs.run_from < pods.held_until AND runs.run_until > pods.held_from
CROSS JOIN settings
