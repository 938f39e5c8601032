"""The web page: files of a patient in, the answer and its report out. Thin over the pipeline and the reports."""
