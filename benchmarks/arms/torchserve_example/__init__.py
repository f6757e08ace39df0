"""TorchServe's own workflow example design (examples/Workflows/dog_breed_classification) with this project's models.

A function node hands the film as base64 to both model nodes, and each of them decodes it. The server's configuration
(log level, token, request size) is the project's, which is kinder to it than the example's own.
"""
