"""Mixture of experts: a dense checkpoint in an architecture that transformers knows by itself.

target.py     which families become which, and the exact shape of the result (no torch)
grouping.py   neurons into a shared and routed experts, by their activations; the router fitted to them
compensate.py down projections that make up for what is missing at a token
experts.py    the weights of one layer's experts, copied or divided
estimate.py   what a conversion needs (no torch)
convert.py    the whole checkpoint, layer by layer, resumable
"""
