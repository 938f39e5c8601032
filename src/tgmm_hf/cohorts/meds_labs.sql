-- The last number of each column in the hours before a row's index time. Codes match as a whole, because a code often
-- holds the unit.
-- Patients are compared as text, because MEDS has integers and a table may have anything.
CREATE TABLE results AS
SELECT
    t.id,
    c.lab_column,
    c.unit,
    e.time,
    e.code,
    e.numeric_value AS number
FROM events AS e
JOIN codes AS c USING (code)
JOIN index_times AS t
    ON CAST(e.subject_id AS VARCHAR) = t.patient_id
    AND e.time BETWEEN t.index_time - to_hours(getvariable('hours')) AND t.index_time;

CREATE TABLE cells AS
SELECT id, lab_column, unit, number
FROM results
WHERE isfinite(number)
QUALIFY row_number() OVER (PARTITION BY id, lab_column ORDER BY time DESC, code, number) = 1;

-- All numbers of the time whose number is taken. Several different ones are a doubt.
CREATE TABLE last_numbers AS
SELECT id, lab_column, unit, number
FROM results
WHERE isfinite(number)
QUALIFY rank() OVER (PARTITION BY id, lab_column ORDER BY time DESC) = 1;

CREATE TABLE counts AS
SELECT c.lab_column, count(r.id) AS results, count(r.id) FILTER (WHERE r.number IS NULL OR NOT isfinite(r.number)) AS without_number
FROM (SELECT DISTINCT lab_column FROM codes) AS c
LEFT JOIN results AS r USING (lab_column)
GROUP BY c.lab_column;
