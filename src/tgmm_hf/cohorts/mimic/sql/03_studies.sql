-- ECGs and echo studies within a stay. A study within two overlapping stays belongs to the one that started last.
CREATE TABLE echo_studies AS
SELECT r.subject_id, r.study_id, coalesce(min(l.study_datetime), min(r.acquisition_datetime)) AS echo_time
FROM echo_records AS r
LEFT JOIN echo_study_list AS l USING (study_id)
GROUP BY r.subject_id, r.study_id;

CREATE TABLE echo_in_stay AS
SELECT s.hadm_id, e.study_id AS echo_study_id, e.echo_time
FROM echo_studies AS e
JOIN stays AS s ON e.subject_id = s.subject_id AND e.echo_time BETWEEN s.starttime AND s.dischtime
WHERE s.is_usable
QUALIFY row_number() OVER (PARTITION BY e.study_id ORDER BY s.starttime DESC, s.hadm_id) = 1;

CREATE TABLE ecg_in_stay AS
SELECT s.hadm_id, e.study_id AS ecg_study_id, e.ecg_time, e.path AS ecg_path
FROM ecg_records AS e
JOIN stays AS s ON e.subject_id = s.subject_id AND e.ecg_time BETWEEN s.starttime AND s.dischtime
WHERE s.is_usable
QUALIFY row_number() OVER (PARTITION BY e.study_id ORDER BY s.starttime DESC, s.hadm_id) = 1;

-- Index time: the later of the first ECG and the first echo. Without either list (laboratory tables only) it is
-- `index_hours` after admission, at most the discharge.
CREATE TABLE index_times AS
WITH first_echo AS (
    SELECT * FROM echo_in_stay QUALIFY row_number() OVER (PARTITION BY hadm_id ORDER BY echo_time, echo_study_id) = 1
),
first_ecg AS (
    SELECT hadm_id, min(ecg_time) AS first_ecg_time FROM ecg_in_stay GROUP BY hadm_id
)
SELECT
    s.hadm_id,
    e.echo_study_id,
    e.echo_time,
    g.first_ecg_time,
    CASE WHEN e.echo_time IS NULL AND g.first_ecg_time IS NULL
        THEN least(s.admittime + to_hours(getvariable('index_hours')::BIGINT), s.dischtime)
        ELSE greatest(e.echo_time, g.first_ecg_time) END AS index_time  -- greatest() skips NULL
FROM stays AS s
LEFT JOIN first_echo AS e USING (hadm_id)
LEFT JOIN first_ecg AS g USING (hadm_id)
WHERE s.is_usable;

-- Which ECG, of those not after the index time: the one nearest to the echo, or the first.
CREATE TABLE chosen_ecg AS
SELECT i.hadm_id, e.ecg_study_id, e.ecg_time, e.ecg_path
FROM index_times AS i
JOIN ecg_in_stay AS e USING (hadm_id)
WHERE e.ecg_time <= i.index_time
QUALIFY row_number() OVER (
    PARTITION BY i.hadm_id
    ORDER BY
        CASE WHEN getvariable('ecg') = 'nearest' THEN abs(epoch(e.ecg_time) - epoch(i.echo_time)) END NULLS LAST,
        e.ecg_time,
        e.ecg_study_id
) = 1;

-- Stays with an ECG and an echo, if those directories are given. Only the laboratory rows of these stays are read.
CREATE TABLE candidates AS
SELECT
    s.*,
    i.index_time,
    i.echo_study_id,
    i.echo_time,
    c.ecg_path,
    c.ecg_time,
    abs(epoch(c.ecg_time) - epoch(i.echo_time)) / 3600 AS hours_apart
FROM stays AS s
JOIN index_times AS i USING (hadm_id)
LEFT JOIN chosen_ecg AS c USING (hadm_id)
WHERE (NOT getvariable('need_echo') OR i.echo_study_id IS NOT NULL)
  AND (NOT getvariable('need_ecg') OR c.ecg_path IS NOT NULL);
