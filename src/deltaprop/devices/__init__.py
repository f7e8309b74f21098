"""Where arrays live, and what runs a CUDA launch: a GPU (cupy), or this CPU (host)."""
