"""python -m helpers.editions"""

from helpers.editions.command import main

main(prog_name="python -m helpers.editions")
