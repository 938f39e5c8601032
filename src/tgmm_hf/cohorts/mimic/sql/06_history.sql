-- Medical and drug history. Only earlier stays count, which were discharged before the index stay began. Heart-failure
-- codes (of both sets) and titles that name heart failure or cardiomyopathy are left out, because they would be the
-- answer. The most recent stay comes first. A cell has at most `history_items` entries.
CREATE TABLE earlier_stays AS
SELECT c.hadm_id, e.hadm_id AS earlier_id, e.dischtime
FROM candidates AS c
JOIN stays AS e ON c.subject_id = e.subject_id AND e.is_usable AND e.dischtime <= c.starttime AND e.hadm_id <> c.hadm_id;

CREATE TABLE earlier_diagnoses AS
SELECT
    e.hadm_id,
    trim(t.long_title) AS entry,
    row_number() OVER (PARTITION BY e.hadm_id ORDER BY e.dischtime DESC, e.earlier_id, d.seq_num, d.icd_code) AS place
FROM earlier_stays AS e
JOIN diagnoses_icd AS d ON e.earlier_id = d.hadm_id
JOIN d_icd_diagnoses AS t ON trim(d.icd_code) = trim(t.icd_code) AND d.icd_version = t.icd_version
WHERE NOT EXISTS (
    SELECT 1 FROM answer_codes AS a
    WHERE a.icd_version = d.icd_version AND upper(replace(trim(d.icd_code), '.', '')) GLOB a.icd_code
)
AND NOT regexp_matches(t.long_title, '(heart|cardiac|ventricular) failure|cardiomyopath', 'i');

-- The file of prescriptions passes through, as labevents does in step 4.
SET disabled_optimizers = 'join_order,build_side_probe_side';
CREATE TABLE earlier_drugs AS
SELECT
    e.hadm_id,
    trim(p.drug) AS entry,
    row_number() OVER (
        PARTITION BY e.hadm_id ORDER BY e.dischtime DESC, e.earlier_id, p.starttime, p.pharmacy_id, p.drug
    ) AS place
FROM prescriptions AS p
JOIN earlier_stays AS e ON p.hadm_id = e.earlier_id
WHERE coalesce(p.drug_type, 'MAIN') = 'MAIN' AND trim(p.drug) <> '' AND getvariable('drug_history');
RESET disabled_optimizers;

-- Joins the entries of each stay to one cell; an entry that occurs again counts at its first place.
CREATE MACRO history_cells(entries) AS TABLE
WITH firsts AS (
    SELECT hadm_id, entry, min(place) AS place
    FROM query_table(entries)
    GROUP BY hadm_id, entry
    QUALIFY row_number() OVER (PARTITION BY hadm_id ORDER BY min(place)) <= getvariable('history_items')
)
SELECT hadm_id, string_agg(entry, '; ' ORDER BY place) AS cell
FROM firsts
GROUP BY hadm_id;

CREATE TABLE history AS
SELECT hadm_id, cell AS medical_history FROM history_cells('earlier_diagnoses');
CREATE TABLE drugs AS
SELECT hadm_id, cell AS drug_history FROM history_cells('earlier_drugs');
