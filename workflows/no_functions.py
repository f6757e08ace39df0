"""A .war needs a handler file. This one has no functions: TorchServe's function nodes lose answers under load."""
