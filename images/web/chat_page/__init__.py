"""A chat page in front of one OpenAI-compatible server."""
