"""What Numba compiles for the numba backend; imported only when something has to be compiled."""
