"""Self-contained HTML from what lies in run directories. Imports no torch."""
