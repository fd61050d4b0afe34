"""Tools that run beside the models: fetch, inspect, quantize, convert and remove weights on a volume.

They run in Jobs and init containers, in the project's own image or inside of an engine's, if nothing else of
llm_operator is installed. Therefore nothing here imports the rest of llm_operator, Python 3.10 suffices, and what is
not in the standard library is imported by the function that needs it.
"""
