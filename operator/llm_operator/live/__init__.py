"""Live objects of the API server, reduced to what is decided on, and what is wrong with them. Pure."""
