-- What the numbers of ends stand for.
SELECT DISTINCT number, name, class
FROM ends
