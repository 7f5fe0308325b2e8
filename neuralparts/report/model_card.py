"""The model card, NAME.md: a page about a model for those who get it from its author.

In: the model's file name, and its facts. Out: Markdown; templates/model_card.md has its words.
"""

import json

from neuralparts.domain import DOMAIN_RADIUS
from neuralparts.report.templating import render


def model_card(file_name: str, facts: dict[str, str]) -> str:
    """The text of the card. file_name: of the model, .safetensors. facts: as `network.facts` returns them."""
    return render(
        "model_card.md",
        title=file_name,
        # In a block of code nothing is escaped. A string of JSON is one of Python, and has no end of line.
        quoted_name=json.dumps(file_name),
        facts=facts,
        domain_radius=DOMAIN_RADIUS,
    )
