"""One pod's copies: the weighted LRU, the machine of one copy, the order of loads, what is evicted."""
