"""What those who run the router look at: metrics, and answers about conversations."""
