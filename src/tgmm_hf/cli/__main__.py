"""`python -m tgmm_hf.cli` does the same as `tgmm`."""

from tgmm_hf.cli import main

if __name__ == "__main__":
    main()
