"""`python -m poolblend COMMAND`."""

from poolblend.commands import main

if __name__ == "__main__":
    main()
