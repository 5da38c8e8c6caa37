"""What goes to disk, and how."""
