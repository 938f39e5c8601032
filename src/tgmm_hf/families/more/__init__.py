"""MoRE: X-ray, ECG and report in one space."""
