"""``python -m protlm``, and ``accelerate launch -m protlm``."""

from protlm.cli.main import main

if __name__ == "__main__":
    main()
