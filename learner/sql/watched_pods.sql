-- How many pods of a workload were watched at all.
SELECT workload, ring, COUNT(DISTINCT uid) AS pods
FROM watched
GROUP BY workload, ring
ORDER BY workload ASC NULLS FIRST, ring ASC NULLS FIRST
