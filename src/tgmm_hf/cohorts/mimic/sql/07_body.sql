-- Height, weight and BMI of the outpatient table (omr), which has dates only. The last value before the index date is taken,
-- at most `omr_days` old. Inches and pounds have two decimals there, so centimetres and kilograms get one.
CREATE TABLE body_results AS
WITH measured AS (
    SELECT
        c.hadm_id, o.chartdate, o.seq_num,
        CASE
            WHEN o.result_name LIKE 'Height%' THEN 'height'
            WHEN o.result_name LIKE 'Weight%' THEN 'weight'
            WHEN o.result_name LIKE 'BMI%' THEN 'BMI'
        END AS lab_column,
        CASE
            WHEN o.result_name LIKE '%(Inches)' THEN 2.54
            WHEN o.result_name LIKE '%(Lbs)' THEN 0.45359237
            WHEN o.result_name LIKE 'BMI%' THEN 1
        END AS factor,  -- NULL: a name without a unit
        TRY_CAST(o.result_value AS DOUBLE) AS number
    FROM omr AS o
    JOIN candidates AS c ON o.subject_id = c.subject_id
        AND o.chartdate < c.index_time::DATE
        AND o.chartdate >= c.index_time::DATE - getvariable('omr_days')::INTEGER
)
SELECT
    m.hadm_id, m.lab_column, m.chartdate, m.seq_num, round(m.number * m.factor, 1) AS canonical,
    CASE
        WHEN m.number IS NULL THEN 'not a number'
        WHEN m.factor IS NULL THEN 'unknown unit'
        WHEN m.number * m.factor NOT BETWEEN l.lowest AND l.highest THEN 'impossible value'
        ELSE 'used'
    END AS status
FROM measured AS m
JOIN lab_columns AS l USING (lab_column);

CREATE TABLE body_cells AS
SELECT hadm_id, lab_column, canonical
FROM body_results
WHERE status = 'used'
QUALIFY row_number() OVER (PARTITION BY hadm_id, lab_column ORDER BY chartdate DESC, seq_num DESC) = 1;

INSERT INTO lab_counts
SELECT lab_column, status, count(*), 0 FROM body_results GROUP BY lab_column, status ORDER BY lab_column, status;
