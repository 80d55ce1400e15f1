-- Where a Service's port led in a window, by the EndpointSlices of that time.
WITH dialled AS (
    SELECT DISTINCT dst_id AS service, protocol, dst_port, window_start, window_end
    FROM flows
    WHERE dst_kind = 'service'
)
SELECT
    dialled.service AS service,
    dialled.protocol AS protocol,
    dialled.dst_port AS dst_port,
    dialled.window_start AS window_start,
    MIN(backends.workload) AS workload,
    MIN(backends.target_port) AS target_port,
    CASE
        WHEN MIN(backends.workload) <> MAX(backends.workload) THEN 'several'
        WHEN MIN(backends.target_port) <> MAX(backends.target_port) THEN 'several'
        WHEN MIN(backends.known) = 0 THEN 'none'
        ELSE 'one'
    END AS state
FROM dialled
INNER JOIN backends
    ON backends.service = dialled.service
    AND backends.protocol = dialled.protocol
    AND backends.port = dialled.dst_port
    AND backends.held_from < dialled.window_end
    AND backends.held_until > dialled.window_start
GROUP BY dialled.service, dialled.protocol, dialled.dst_port, dialled.window_start
