-- Left ventricular ejection fraction (percent) of the structured measurements of MIMIC-IV-ECHO 1.0.x, by the measurement
-- that the study list names. Only numbers count. Of several, the biplane one is taken, then 3D, then the reader's estimate.
CREATE TABLE lvef AS
SELECT c.hadm_id, TRY_CAST(m.result AS DOUBLE) AS lvef
FROM candidates AS c
JOIN echo_study_list AS l ON c.echo_study_id = l.study_id
JOIN structured_measurements AS m ON l.measurement_id = m.measurement_id AND l.subject_id = m.subject_id
WHERE m.measurement IN ('biplane_lvef', 'lvef_3d', 'lvef')
  AND lower(coalesce(m.test_type, 'tte')) LIKE '%tte%'
  AND TRY_CAST(m.result AS DOUBLE) BETWEEN 5 AND 90
QUALIFY row_number() OVER (
    PARTITION BY c.hadm_id
    ORDER BY list_position(['biplane_lvef', 'lvef_3d', 'lvef'], m.measurement), m.measurement_datetime, m.result
) = 1;
