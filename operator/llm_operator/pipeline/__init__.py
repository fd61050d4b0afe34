"""What is done with a model before it is served: artifacts, the Jobs that make them, what becomes of those. Pure."""
