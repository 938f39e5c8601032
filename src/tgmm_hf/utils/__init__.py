"""Small helpers that every room uses: files, errors, names, child processes."""
