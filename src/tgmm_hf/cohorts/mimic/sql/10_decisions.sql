-- Every stay gets the first reason that excludes it, or 'included'. The order is the order of the flow table.
CREATE TABLE decisions AS
WITH reasons AS (
    SELECT
        s.subject_id,
        s.hadm_id,
        s.admittime,
        CASE
            WHEN NOT s.is_usable THEN 'times'
            WHEN getvariable('need_echo') AND i.echo_study_id IS NULL THEN 'echo'
            WHEN getvariable('need_ecg') AND i.first_ecg_time IS NULL THEN 'ecg'
            WHEN c.hours_apart > getvariable('max_hours_apart') THEN 'apart'
            WHEN l.hadm_id IS NULL THEN 'labs'
            WHEN getvariable('label') = 'lvef' AND v.lvef IS NULL THEN 'lvef'
            WHEN a.reason IS NOT NULL THEN a.reason
            ELSE 'included'
        END AS step
    FROM stays AS s
    LEFT JOIN index_times AS i USING (hadm_id)
    LEFT JOIN candidates AS c USING (hadm_id)
    LEFT JOIN (SELECT DISTINCT hadm_id FROM lab_cells) AS l USING (hadm_id)
    LEFT JOIN lvef AS v USING (hadm_id)
    LEFT JOIN anomalous_stays AS a USING (hadm_id)
)
SELECT
    subject_id,
    hadm_id,
    CASE
        WHEN step = 'included' AND getvariable('admissions') = 'first' AND row_number() OVER (
            PARTITION BY subject_id, step ORDER BY admittime, hadm_id
        ) > 1 THEN 'not_first'
        ELSE step
    END AS step
FROM reasons;
