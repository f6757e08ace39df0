"""Makes the models: labels, data, training, operating points, evaluation, archives."""
