-- The steps of X-rays that stay, and the labels of each study once. A value other than 1, 0 and -1 is missing.
UPDATE xray_rows SET step = CASE
    WHEN dicom_id IN (SELECT dicom_id FROM pairs) THEN 'included' ELSE 'no ecg'
END WHERE step = 'candidate';

