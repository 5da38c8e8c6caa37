"""What HTVM makes of a hand-over file. It judges the exporter and so shares no code with it."""
