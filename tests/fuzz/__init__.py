"""Fuzzing with 100,000s of inputs: damaged files, odd settings, wrong labels, broken requests.

    python -m tests.fuzz --inputs 100000 --seed 1           # all targets, in proportion
    python -m tests.fuzz mp4 http --inputs 5000 --seed 1
    python -m tests.fuzz mp4 --seed 1 --only 4711           # one input again

Modules: `case` is an input, `mutate` and `values` make inputs from seeds, `targets` lists the parts
of the program and how to run them, `observe` runs one input and looks for forbidden behaviour,
`worker` runs many inputs in a process that may die, `campaign` starts workers and watches them.
"""
