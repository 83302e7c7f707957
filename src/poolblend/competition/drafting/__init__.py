"""What a competition's tables tell of its config, before there is one: the draft of a YAML.

Everything here looks at tables and decides nothing: each key has a reason, and what is not certain
is marked as a guess.
"""
