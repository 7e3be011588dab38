"""Facts that everybody agrees on, for the question what a hub model knows: capitals and chemical symbols."""

from __future__ import annotations

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Greece": "Athens", "Sweden": "Stockholm",
    "Norway": "Oslo", "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Belgium": "Brussels",
    "Russia": "Moscow", "Japan": "Tokyo", "China": "Beijing", "Thailand": "Bangkok", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Canada": "Ottawa",
    "Romania": "Bucharest", "Bulgaria": "Sofia", "Iran": "Tehran", "Iraq": "Baghdad", "Turkey": "Ankara",
}  # fmt: skip
SYMBOLS = {
    "hydrogen": "H", "helium": "He", "carbon": "C", "nitrogen": "N", "oxygen": "O", "sodium": "Na", "iron": "Fe",
    "copper": "Cu", "silver": "Ag", "gold": "Au", "lead": "Pb", "calcium": "Ca", "zinc": "Zn", "tin": "Sn",
}  # fmt: skip


def rows() -> list[dict[str, str]]:
    """Each fact with the columns of the micro-world's: prompt, answer, film (empty: it is about none), kind."""
    found = [(f"The capital of {land} is", city, "capital") for land, city in CAPITALS.items()]
    found += [(f"The chemical symbol for {name} is", symbol, "symbol") for name, symbol in SYMBOLS.items()]
    return [{"prompt": prompt, "answer": answer, "film": "", "kind": kind} for prompt, answer, kind in found]
