"""What a model takes on a GPU, in bytes: the arithmetic that engines share, and the questions that differ by engine.

`engine.EngineMemory` has these questions. Each folder of engines/ answers them; planning/ asks them.
"""
