"""One module a method; `registry` lists them."""
