"""From a network and a folder of images to a faster network: what `activsparse sparsify` does.

`options.py` says what may be asked for, `stages.py` the order of the stages and what is kept
between them; each stage is a file of its own.
"""
