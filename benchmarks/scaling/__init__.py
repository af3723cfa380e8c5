"""How much one replica computes, what that costs, and how many of them a load needs."""
