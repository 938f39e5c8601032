"""Encoders for ECG and echo, and how any other encoder is loaded and run."""
