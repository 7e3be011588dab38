"""python -m workbook.editions"""

from workbook.editions.command import main

main(prog_name="python -m workbook.editions")
