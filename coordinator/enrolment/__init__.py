"""How boards become members of a fleet: certificates, tokens, requests, and the broker that asks for them."""
