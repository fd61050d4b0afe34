"""The architectures beyond the first families: rows of traits, mixers with a state, towers, and what stays special.

What layers contain was read in transformers 5.20.2 (src/transformers/models) and, if it has no such class, in vLLM
0.33.0 (model_executor/models); tests/engines/test_parameters.py holds every row against transformers' own parameter
counts on the meta device.
"""
