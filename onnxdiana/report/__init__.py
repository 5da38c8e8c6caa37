"""What a run says about itself: ``summary.json``, and the table on the terminal."""
