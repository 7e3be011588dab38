"""The command `workbook data`: look at a file before anything is trained on it."""

from __future__ import annotations

import sys

import click


@click.group()
def data() -> None:
    """Look at data of your own before a lesson trains on them."""


@data.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", default="", help="A folder whose tokenizer counts the tokens.  [default: the pocket encoder]")
@click.option(
    "--max-tokens", default=256, show_default=True, type=click.IntRange(1), help="Where the lessons cut a text."
)
def check(files: tuple[str, ...], model: str, max_tokens: int) -> None:
    """Report rows, columns, repeated rows, classes, lengths, and what cannot be read in FILE.

    FILE is CSV, JSON Lines, JSON or Parquet, or a folder with train, validation and test files; several files
    are told apart by those words in their names. The exit status is 0 if a lesson can use the data as they are.

    \b
    workbook data check reviews.csv
    workbook data check "reviews.csv?text=Body&label=Stars"     which columns to read
    workbook data check "reviews.csv?encoding=latin-1&bad=skip" how, and without the rows that cannot be used
    workbook data check train.csv test.csv                      also: rows that both of them have
    workbook data check train.csv --model my-model              tokens as your own model counts them
    """
    from helpers.local_data.checking import checked
    from helpers.local_data.page import page
    from helpers.runtime import quiet_libraries

    quiet_libraries(offline=True)
    report, lengths = checked(files, model, max_tokens)
    for line in page(report, lengths):
        click.echo(line)
    if report.trouble:
        click.echo("\nThese data cannot be used yet:")
        for trouble in report.trouble:
            click.echo(f"- {trouble}")
        sys.exit(1)
    click.echo(f"\nThese data can be used{_how(files)}.")


def _how(files: tuple[str, ...]) -> str:
    if len(files) == 1:
        return f': in a lesson\'s parameters, write data = "{files[0]}"'
    return ": put the files in one folder, and give a lesson that folder as its data"
