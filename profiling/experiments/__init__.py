"""Federated experiments on one machine: the product's method and its peers, on data that differs from site to site."""
