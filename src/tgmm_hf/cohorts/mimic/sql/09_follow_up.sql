-- Prognosis of stays without heart failure up to and including the stay. The landmark is `landmark_days` after discharge.
-- A stay is excluded if an event, a death or the end of observation comes up to the landmark. Time counts from the landmark,
-- in whole days, because dod has no clock time. Event 1 is the first heart-failure stay after the landmark, 2 is death, 0 is
-- censored. dod is empty if a patient died more than a year after the last discharge. So observation ends a year after that
-- discharge, and a later dod is not used.
CREATE TABLE follow_up AS
WITH last_contacts AS (
    SELECT subject_id, max(last_contact)::DATE AS day FROM stays WHERE is_usable GROUP BY subject_id
),
later AS (
    SELECT DISTINCT c.hadm_id
    FROM candidates AS c
    JOIN stays AS s ON c.subject_id = s.subject_id AND s.admittime > c.dischtime
),
days AS (
    SELECT
        c.hadm_id,
        h.prevalent,
        c.died_in_stay,
        l.hadm_id IS NOT NULL AS later_contact,
        c.dischtime::DATE + getvariable('landmark_days')::INTEGER AS landmark,
        h.incident_time::DATE AS hf_day,
        c.dod AS death_day,
        lc.day + 365 AS censor_day
    FROM candidates AS c
    JOIN hf_status AS h USING (hadm_id)
    JOIN last_contacts AS lc USING (subject_id)
    LEFT JOIN later AS l USING (hadm_id)
),
ended AS (
    SELECT
        *,
        CASE
            WHEN hf_day <= censor_day AND hf_day <= coalesce(death_day, hf_day) THEN 1
            WHEN death_day <= censor_day THEN 2
            ELSE 0
        END AS event
    FROM days
),
timed AS (
    SELECT *, CASE event WHEN 1 THEN hf_day WHEN 2 THEN death_day ELSE censor_day END - landmark AS time FROM ended
)
SELECT
    hadm_id,
    later_contact,
    event,
    time,
    CASE
        WHEN prevalent THEN 'prevalent'
        WHEN died_in_stay THEN 'died in stay'
        WHEN time <= 0 AND event = 1 THEN 'early heart failure'
        WHEN time <= 0 AND event = 2 THEN 'early death'
        WHEN time <= 0 THEN 'early end'
        WHEN NOT later_contact AND getvariable('follow_up') = 'later_contact' THEN 'no later contact'
        ELSE 'included'
    END AS prognosis
FROM timed;
