"""Published weights: converting them, model cards, and uploads to the Hugging Face Hub."""
