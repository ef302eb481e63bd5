"""Inputs by the hundred thousand: damaged files, odd settings, wrong labels, broken requests.

    python -m tests.fuzz --inputs 100000 --seed 1           # all targets, each its share
    python -m tests.fuzz mp4 http --inputs 5000 --seed 1
    python -m tests.fuzz mp4 --seed 1 --only 4711           # one input once more

Modules: `case` is an input, `mutate` and `values` make them from seeds, `targets` says of what and
how the program is run with them, `observe` runs one and looks at what it must not do, `worker` runs
many in a process that may die, `campaign` starts workers and watches over them.
"""
