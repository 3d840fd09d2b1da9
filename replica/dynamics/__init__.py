"""Learning dynamics: order-parameter equations of online learning, and what follows from them."""
