"""The edge to the API server: client, cache, work queue, and the kopf handlers that feed them."""
