"""MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO as PhysioNet ships them -> cohort table (`tgmm curate`)."""
