"""From objective, network and data to parameters.

``config`` (typed, no jax), ``data`` (batch = f(config, step)), ``steps`` (the pure jitted step), ``sharding``,
``checkpoint`` (Orbax) and ``loop``, which puts them together. Import the module you need; this package imports
none of them, so that the command line can read a config without starting JAX.
"""
