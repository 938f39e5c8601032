-- One row per hospital stay. A stay starts with the registration in the emergency department, because ECGs and blood are
-- taken there before admittime. Stays whose patient or times are missing, or that end before they start, are kept here
-- and excluded with that reason.
CREATE TABLE stays AS
SELECT
    a.subject_id,
    a.hadm_id,
    a.admittime,
    a.dischtime,
    least(a.admittime, coalesce(a.edregtime, a.admittime)) AS starttime,
    greatest(a.dischtime, coalesce(a.edouttime, a.dischtime)) AS last_contact,
    coalesce(a.hospital_expire_flag = 1, FALSE) OR coalesce(a.deathtime <= a.dischtime, FALSE)
        OR coalesce(a.discharge_location = 'DIED', FALSE) AS died_in_stay,
    p.gender,
    -- ages above 89 are given as 91 and do not grow: the true age is not known
    CASE WHEN p.anchor_age >= 91 THEN p.anchor_age ELSE p.anchor_age + year(a.admittime) - p.anchor_year END AS age,
    CASE WHEN upper(a.race) IN ('UNKNOWN', 'UNABLE TO OBTAIN', 'PATIENT DECLINED TO ANSWER') THEN NULL
        ELSE a.race END AS race,
    p.anchor_year_group,
    p.dod,
    coalesce(p.subject_id IS NOT NULL AND a.dischtime >= a.admittime, FALSE) AS is_usable
FROM admissions AS a
LEFT JOIN patients AS p USING (subject_id);
