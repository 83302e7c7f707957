"""Where jobs run: one file per way. A runner takes a list of jobs and does them."""
