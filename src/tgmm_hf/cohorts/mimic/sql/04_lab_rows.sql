-- The only pass over labevents. It takes the listed items of candidate stays, from the start of the stay to the index time.
-- Rows are matched by patient and time, because about a quarter of them have no hadm_id. charttime is the time of the
-- sample. The result may have come later.
-- DuckDB estimates that a CSV file has few rows. It would build the hash table of the join from all of labevents, and write
-- gigabytes to disk. Without these optimisers it joins tables as written: small tables are hashed, the file passes through.
SET disabled_optimizers = 'join_order,build_side_probe_side';
CREATE TABLE lab_rows AS
SELECT
    w.hadm_id,
    i.lab_column,
    l.charttime,
    l.storetime,
    l.labevent_id,
    coalesce(l.valuenum, TRY_CAST(l.value AS DOUBLE)) AS number,
    -- results beyond the measuring range stand in value, or (de-identified values) at the head of the comment
    nullif(regexp_extract(trim(coalesce(nullif(trim(l.value, ' _'), ''), l.comments)), '^[<>]=?\s*[0-9]+(\.[0-9]+)?'), '')
        AS comparator,
    coalesce(trim(l.valueuom), '') AS unit
FROM labevents AS l
JOIN lab_items AS i USING (itemid)
JOIN candidates AS w ON l.subject_id = w.subject_id AND l.charttime BETWEEN w.starttime AND w.index_time;
RESET disabled_optimizers;
