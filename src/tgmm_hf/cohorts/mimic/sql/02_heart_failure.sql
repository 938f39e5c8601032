-- Heart failure by code. Discharge codes carry no present-on-admission flag, so a code of the index stay counts as prevalent.
-- Codes are compared without dots; '*' in hf_codes stands for any ending.
CREATE TABLE hf_stays AS
SELECT DISTINCT s.subject_id, s.hadm_id, s.admittime
FROM stays AS s
JOIN diagnoses_icd AS d USING (hadm_id)
JOIN hf_codes AS c ON d.icd_version = c.icd_version AND upper(replace(trim(d.icd_code), '.', '')) GLOB c.icd_code
WHERE s.admittime IS NOT NULL;

-- The first heart-failure stay of a patient divides the stays. Before it the patient is free of heart failure, from it on
-- heart failure is prevalent.
CREATE TABLE hf_status AS
SELECT
    s.hadm_id,
    coalesce(f.first_hf <= s.admittime, FALSE) AS prevalent,
    CASE WHEN f.first_hf > s.admittime THEN f.first_hf END AS incident_time
FROM stays AS s
LEFT JOIN (SELECT subject_id, min(admittime) AS first_hf FROM hf_stays GROUP BY subject_id) AS f USING (subject_id);
