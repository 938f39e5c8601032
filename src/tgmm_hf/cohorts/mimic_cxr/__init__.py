"""MIMIC-CXR-JPG with its reports, and MIMIC-IV-ECG -> table of X-rays, ECGs and notes (`tgmm curate-more`)."""
