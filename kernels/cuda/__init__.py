"""The arithmetic of `kernels` on NVIDIA GPUs: Numba-CUDA kernels, enqueued on the caller's stream.

Importing these modules needs no GPU and no driver, but loads Numba's compiler: import them where
they run. A kernel is compiled once per machine, for about a second; see `kernels.cuda.launch`.
"""
