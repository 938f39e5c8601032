-- ECGs with a patient, a time and a path. An ECG that stands twice in the list is not used.
CREATE TABLE ecgs AS
SELECT study_id, subject_id, path, ecg_time
FROM (SELECT *, count(*) OVER (PARTITION BY study_id) AS copies FROM ecg_records)
WHERE study_id IS NOT NULL AND subject_id IS NOT NULL AND path IS NOT NULL AND ecg_time IS NOT NULL AND copies = 1;

-- X-rays and ECGs of one patient, at most `days` days apart. The days are whole days between the two dates, as
-- published.
CREATE TABLE pairs AS
SELECT
    x.dicom_id, x.subject_id, x.study_id AS cxr_study_id, x.split, x.view, x.taken,
    e.study_id AS ecg_study_id, e.path, e.ecg_time,
    date_diff('day', x.day, e.ecg_time::DATE) AS days_apart
FROM (SELECT * FROM xray_rows WHERE step = 'candidate') AS x
JOIN ecgs AS e ON e.subject_id = x.subject_id
    AND abs(date_diff('day', x.day, e.ecg_time::DATE)) <= getvariable('days');
