"""`infer.py`: the blend's fold models over the test table, and what is made of them."""
