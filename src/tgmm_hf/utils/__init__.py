"""Small helpers that every room uses: errors, files, digests, versions, names, child processes, code for the Hub."""
