"""Other published systems for ECGs, one folder each."""
