"""Models and synthetic cohorts -> the Hub, with what a reader has to know about them, and nothing that is not meant."""
