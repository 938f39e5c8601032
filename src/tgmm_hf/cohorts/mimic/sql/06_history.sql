-- Medical and drug history: earlier stays only, discharged before the index stay began. Heart-failure codes (of both sets)
-- and titles that speak of heart failure or cardiomyopathy are left out: they would be the answer. Most recent stay first,
-- at most `history_items` entries a cell.
CREATE TABLE earlier_stays AS
SELECT c.hadm_id, e.hadm_id AS earlier_id, e.dischtime
FROM candidates AS c
JOIN stays AS e ON c.subject_id = e.subject_id AND e.is_usable AND e.dischtime <= c.starttime AND e.hadm_id <> c.hadm_id;

CREATE TABLE history AS
WITH said AS (
    SELECT
        e.hadm_id,
        trim(t.long_title) AS title,
        row_number() OVER (PARTITION BY e.hadm_id ORDER BY e.dischtime DESC, e.earlier_id, d.seq_num, d.icd_code) AS place
    FROM earlier_stays AS e
    JOIN diagnoses_icd AS d ON e.earlier_id = d.hadm_id
    JOIN d_icd_diagnoses AS t ON trim(d.icd_code) = trim(t.icd_code) AND d.icd_version = t.icd_version
    WHERE NOT EXISTS (
        SELECT 1 FROM answer_codes AS a
        WHERE a.icd_version = d.icd_version AND upper(replace(trim(d.icd_code), '.', '')) GLOB a.icd_code
    )
    AND NOT regexp_matches(t.long_title, '(heart|cardiac|ventricular) failure|cardiomyopath', 'i')
),
firsts AS (
    SELECT hadm_id, title, min(place) AS place
    FROM said
    GROUP BY hadm_id, title
    QUALIFY row_number() OVER (PARTITION BY hadm_id ORDER BY min(place)) <= getvariable('history_items')
)
SELECT hadm_id, string_agg(title, '; ' ORDER BY place) AS medical_history
FROM firsts
GROUP BY hadm_id;

-- prescriptions pass through as labevents do in step 4
SET disabled_optimizers = 'join_order,build_side_probe_side';
CREATE TABLE drugs AS
WITH given AS (
    SELECT
        e.hadm_id,
        trim(p.drug) AS drug,
        row_number() OVER (
            PARTITION BY e.hadm_id ORDER BY e.dischtime DESC, e.earlier_id, p.starttime, p.pharmacy_id, p.drug
        ) AS place
    FROM prescriptions AS p
    JOIN earlier_stays AS e ON p.hadm_id = e.earlier_id
    WHERE coalesce(p.drug_type, 'MAIN') = 'MAIN' AND trim(p.drug) <> '' AND getvariable('drug_history')
),
firsts AS (
    SELECT hadm_id, drug, min(place) AS place
    FROM given
    GROUP BY hadm_id, drug
    QUALIFY row_number() OVER (PARTITION BY hadm_id ORDER BY min(place)) <= getvariable('history_items')
)
SELECT hadm_id, string_agg(drug, '; ' ORDER BY place) AS drug_history
FROM firsts
GROUP BY hadm_id;
RESET disabled_optimizers;
