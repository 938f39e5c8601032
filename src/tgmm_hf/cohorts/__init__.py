"""Where cohort tables come from: MIMIC, PTB-XL, MEDS, synthetic patients."""
