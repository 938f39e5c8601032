-- Every row of the metadata, with its day and the first step that would exclude it.
CREATE TABLE two_splits AS
SELECT subject_id FROM cxr_splits WHERE subject_id IS NOT NULL GROUP BY subject_id HAVING count(DISTINCT split) > 1;

CREATE TABLE split_of AS
SELECT dicom_id, CASE lower(trim(min(split))) WHEN 'validate' THEN 'validation' ELSE lower(trim(min(split))) END AS split
FROM cxr_splits WHERE dicom_id IS NOT NULL AND split IS NOT NULL GROUP BY dicom_id;

CREATE TABLE xray_rows AS
WITH dated AS (
    SELECT
        dicom_id, subject_id, study_id, upper(trim(ViewPosition)) AS view,
        try_strptime(left(StudyDate, 8), '%Y%m%d')::DATE AS day,
        try_strptime(lpad(split_part(StudyTime, '.', 1), 6, '0'), '%H%M%S')::TIME AS clock,
        row_number() OVER (PARTITION BY dicom_id ORDER BY subject_id, study_id) AS copy
    FROM cxr_metadata
)
SELECT
    d.dicom_id, d.subject_id, d.study_id, d.view, d.day, d.day + coalesce(d.clock, TIME '12:00:00') AS taken, s.split,
    CASE
        WHEN d.dicom_id IS NULL OR d.subject_id IS NULL OR d.study_id IS NULL OR d.day IS NULL THEN 'incomplete'
        WHEN d.copy > 1 THEN 'repeated'
        WHEN coalesce(d.view, '') NOT IN ('PA', 'AP') THEN 'view'
        WHEN d.subject_id IN (SELECT subject_id FROM left_out_patients) THEN 'listed'
        WHEN s.split IS NULL OR s.split NOT IN ('train', 'validation', 'test') THEN 'no split'
        WHEN d.subject_id IN (SELECT subject_id FROM two_splits) THEN 'two splits'
        ELSE 'candidate'
    END AS step
FROM dated AS d LEFT JOIN split_of AS s ON s.dicom_id = d.dicom_id;
