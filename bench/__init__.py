"""What things cost beside what they would at least: see README.md here."""
