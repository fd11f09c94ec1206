"""Trains the packaged model of this example and writes it to a folder: `python build.py FOLDER`, with the environment of MLServer.

A scikit-learn classifier over numbers, a file of words, and nothing else: the model could be served bare, for clients that make tensors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "server"))

import joblib
from sklearn.linear_model import LogisticRegression
from text_classifier import features

SENTENCES = {
    "english": [
        "the weather is fine today and we are going for a walk",
        "she opened the window because the room was too warm",
        "I would like a cup of tea with some milk please",
        "our train was late so we missed the beginning of the film",
        "they have been living in this house for twenty years",
        "what do you think about the new book that he wrote",
        "the children were playing in the garden with their dog",
        "it takes about an hour to drive from here to the sea",
    ],
    "german": [
        "das Wetter ist heute schön und wir gehen spazieren",
        "sie öffnete das Fenster, weil es im Zimmer zu warm war",
        "ich hätte gerne eine Tasse Tee mit etwas Milch bitte",
        "unser Zug hatte Verspätung, also haben wir den Anfang verpasst",
        "sie wohnen seit zwanzig Jahren in diesem Haus",
        "was hältst du von dem neuen Buch, das er geschrieben hat",
        "die Kinder spielten mit ihrem Hund im Garten",
        "man braucht ungefähr eine Stunde von hier bis ans Meer",
    ],
    "french": [
        "il fait beau aujourd'hui et nous allons nous promener",
        "elle a ouvert la fenêtre parce qu'il faisait trop chaud",
        "je voudrais une tasse de thé avec un peu de lait",
        "notre train était en retard et nous avons manqué le début",
        "ils habitent dans cette maison depuis vingt ans",
        "que penses-tu du nouveau livre qu'il a écrit",
        "les enfants jouaient dans le jardin avec leur chien",
        "il faut environ une heure pour aller d'ici à la mer",
    ],
}


def build(folder: Path) -> None:
    """Writes `model.joblib` and `labels.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = list(SENTENCES)
    pairs = [(text, number) for number, label in enumerate(labels) for text in SENTENCES[label]]
    texts, numbers = zip(*pairs, strict=True)
    model = LogisticRegression(C=100.0).fit(features(list(texts)), numbers)
    joblib.dump(model, folder / "model.joblib")
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
