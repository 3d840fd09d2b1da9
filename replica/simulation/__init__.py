"""Direct simulations of training, to judge the theory by; nothing here imports a solver."""
