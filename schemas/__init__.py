"""Wire contracts: what travels on topics, frozen and without I/O. They import nobody of ours."""
