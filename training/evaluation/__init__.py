"""How good a model's probabilities are, and the operating points that follow."""
