-- Results are converted to the canonical unit (lab_units holds the factors, NULL for an unknown unit). Results that cannot
-- be used get a status. The last usable result of each column is taken.
CREATE TABLE lab_results AS
WITH converted AS (
    SELECT
        r.*,
        u.factor,
        -- a converted value has no more digits than the laboratory gave it
        CASE WHEN u.factor = 1 OR r.number <= 0 THEN r.number
            ELSE round(r.number * u.factor, 2 - floor(log10(r.number * u.factor))::INTEGER) END AS canonical,
        c.may_be_negative,
        c.lowest,
        c.highest
    FROM lab_rows AS r
    JOIN lab_columns AS c USING (lab_column)
    JOIN lab_units AS u USING (lab_column, unit)
)
SELECT
    hadm_id, lab_column, charttime, storetime, labevent_id, canonical, comparator, factor,
    CASE
        WHEN number IS NULL AND comparator IS NOT NULL AND getvariable('keep_comparators') THEN 'used'
        WHEN number IS NULL AND comparator IS NOT NULL THEN 'beyond the measuring range'
        WHEN number IS NULL THEN 'not a number'
        WHEN factor IS NULL THEN 'unknown unit'
        WHEN number <= 0 AND NOT may_be_negative THEN 'not positive'
        WHEN canonical NOT BETWEEN lowest AND highest THEN 'impossible value'
        ELSE 'used'
    END AS status
FROM converted;

CREATE TABLE lab_cells AS
SELECT hadm_id, lab_column, canonical, CASE WHEN canonical IS NULL THEN comparator END AS comparator
FROM lab_results
WHERE status = 'used'
QUALIFY row_number() OVER (
    PARTITION BY hadm_id, lab_column
    ORDER BY charttime DESC, storetime DESC NULLS LAST, labevent_id DESC
) = 1;

CREATE TABLE lab_counts AS
SELECT
    lab_column,
    status,
    count(*) AS results,
    count(*) FILTER (WHERE status = 'used' AND factor <> 1) AS converted
FROM lab_results
GROUP BY lab_column, status
ORDER BY lab_column, status;
