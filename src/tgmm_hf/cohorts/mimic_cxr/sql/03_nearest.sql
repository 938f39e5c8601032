-- For the choice "nearest": the ECG that is nearest in time to each X-ray. An X-ray without a time counts as noon.
CREATE TABLE nearest_pairs AS
SELECT * FROM pairs
QUALIFY row_number() OVER (
    PARTITION BY dicom_id ORDER BY abs(days_apart), abs(date_diff('second', taken, ecg_time)), ecg_study_id
) = 1;
DROP TABLE pairs;
ALTER TABLE nearest_pairs RENAME TO pairs;
