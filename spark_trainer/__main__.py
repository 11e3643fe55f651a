"""`python -m spark_trainer …`"""

from spark_trainer.cli import main

if __name__ == "__main__":
    main()
