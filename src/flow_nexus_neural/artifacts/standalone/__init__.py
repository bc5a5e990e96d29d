"""Computes a model's answers with numpy alone; these modules are copied into every exported `predictor.py`.

They import nothing of this project but each other. Exports are checked with them too: they share no code with
the nodes, so that an agreement says something.
"""
