-- Rows of one edge, window and reporter added up; what told them apart and does not matter here (node, backend, dialled
-- address) is gone.
SELECT
    window_start,
    MAX(window_end) AS window_end,
    reporter,
    src_kind,
    src_key,
    dst_kind,
    dst_key,
    protocol,
    port,
    icmp_type,
    icmp_code,
    MIN(src_ip) AS src_ip,
    MIN(dst_ip) AS dst_ip,
    MIN(first_seen) AS first_seen,
    MAX(last_seen) AS last_seen,
    MAX(several) AS several,
    MAX(dns) AS dns,
    MAX(CASE WHEN service IS NOT NULL THEN 1 ELSE 0 END) AS served,
    CAST(SUM(attempts) AS BIGINT) AS attempts,
    CAST(SUM(answered) AS BIGINT) AS answered,
    CAST(SUM(refused) AS BIGINT) AS refused,
    CAST(SUM(denied) AS BIGINT) AS denied,
    CAST(SUM(unanswered) AS BIGINT) AS unanswered,
    CAST(SUM(established) AS BIGINT) AS established
FROM identified
GROUP BY
    window_start, reporter, src_kind, src_key, dst_kind, dst_key, protocol, port, icmp_type, icmp_code
