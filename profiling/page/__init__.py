"""How fast the live page is: a simulated fleet, and a browser that opens it."""
