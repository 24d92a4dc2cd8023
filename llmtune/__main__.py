"""`python -m llmtune`, which is also what `accelerate launch -m llmtune` starts."""

from llmtune.cli import main

if __name__ == "__main__":
    main()
