-- The cohort, one row per included stay, still without its laboratory columns and its split.
CREATE TABLE cohort AS
SELECT
    c.hadm_id::VARCHAR AS id,
    c.subject_id::VARCHAR AS patient_id,
    c.hadm_id,
    c.age,
    c.gender,
    c.race AS ethnicity,
    m.medical_history,
    d.drug_history,
    c.ecg_path,
    f.paths AS echo_paths,
    f.views AS echo_views,
    CASE WHEN getvariable('label') = 'lvef' THEN (v.lvef < getvariable('lvef_below'))::INTEGER
        ELSE h.prevalent::INTEGER END AS hf_diagnosis,
    CASE WHEN u.prognosis = 'included' THEN u.time::DOUBLE END AS hf_risk_time,
    CASE WHEN u.prognosis = 'included' THEN u.event::INTEGER END AS hf_risk_event,
    c.index_time,
    c.ecg_time,
    c.echo_time,
    u.later_contact,
    u.prognosis,
    v.lvef,
    c.anchor_year_group
FROM decisions AS x
JOIN candidates AS c USING (hadm_id)
JOIN hf_status AS h USING (hadm_id)
JOIN follow_up AS u USING (hadm_id)
LEFT JOIN history AS m USING (hadm_id)
LEFT JOIN drugs AS d USING (hadm_id)
LEFT JOIN lvef AS v USING (hadm_id)
LEFT JOIN (
    SELECT r.study_id, list(r.dicom_filepath ORDER BY r.dicom_filepath) AS paths,
        list(w.view ORDER BY r.dicom_filepath) AS views
    FROM echo_records AS r
    LEFT JOIN echo_views AS w USING (dicom_filepath)
    WHERE r.dicom_filepath NOT IN (SELECT dicom_filepath FROM anomalous_clips)
    GROUP BY r.study_id
) AS f ON c.echo_study_id = f.study_id
WHERE x.step = 'included'
ORDER BY c.subject_id, c.admittime, c.hadm_id;
