"""What happens to a job, in plain Python: no Ray, no HTTP, no torch."""
