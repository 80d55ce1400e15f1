-- What initiators dialled on the way to those edges that led through a Service: its address, or (null) the responder's own.
WITH asked AS (
    SELECT
        source.number AS source,
        target.number AS destination,
        connections.number AS connection,
        identified.service,
        identified.dialled_ip,
        identified.dialled_port
    FROM identified
    INNER JOIN ends AS source
        ON
            source.kind = identified.src_kind
            AND source.ip = identified.src_ip
            AND source.id IS NOT DISTINCT FROM identified.src_id
    INNER JOIN ends AS target
        ON
            target.kind = identified.dst_kind
            AND target.ip = identified.dst_ip
            AND target.id IS NOT DISTINCT FROM identified.dst_id
    INNER JOIN connections
        ON
            connections.protocol = identified.protocol
            AND connections.dst_port IS NOT DISTINCT FROM identified.dst_port
            AND connections.icmp_type IS NOT DISTINCT FROM identified.icmp_type
            AND connections.icmp_code IS NOT DISTINCT FROM identified.icmp_code
    WHERE identified.reporter <> 'dst'
    GROUP BY ALL
),

led AS (
    SELECT DISTINCT source, destination, connection FROM asked WHERE dialled_ip IS NOT NULL
)

SELECT
    asked.source,
    asked.destination,
    asked.connection,
    asked.service,
    asked.dialled_ip,
    asked.dialled_port,
    CASE
        WHEN asked.dialled_ip IS NULL THEN -1
        ELSE CAST(DENSE_RANK() OVER (
            ORDER BY asked.dialled_ip NULLS LAST, asked.dialled_port NULLS FIRST, asked.service NULLS FIRST
        ) - 1 AS BIGINT)
    END AS way
FROM asked
INNER JOIN led
    ON
        led.source = asked.source
        AND led.destination = asked.destination
        AND led.connection = asked.connection
ORDER BY asked.source, asked.destination, asked.connection, way
