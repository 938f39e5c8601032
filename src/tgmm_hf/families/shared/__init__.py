"""What the families with a language model share: conversations, processors, and the places of an ECG in a text."""
