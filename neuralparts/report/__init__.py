"""Pages and pictures for a person: the page of a part, its sheet of pictures, the gallery of a folder, a thumbnail.

In: the record of a fit (the dict that becomes NAME.json), its history (arrays), meshes in file units. Out: text and
bytes. This stage writes no file and opens no window. Errors and distances in `record["metrics"]` are in domain units,
as in NAME.json; a page shows lengths in file units beside them.
"""

from neuralparts.report.gallery import gallery_html
from neuralparts.report.model_card import model_card
from neuralparts.report.network_view import network_view
from neuralparts.report.page import FileLink, PageDrawing, draw_page, page_html
from neuralparts.report.part_picture import thumbnail_png
from neuralparts.report.section_picture import Section, cut_section, section_png
from neuralparts.report.sheet import Sheet, draw_sheet, sheet_png

__all__ = [
    "FileLink",
    "PageDrawing",
    "Section",
    "Sheet",
    "cut_section",
    "draw_page",
    "draw_sheet",
    "gallery_html",
    "model_card",
    "network_view",
    "page_html",
    "section_png",
    "sheet_png",
    "thumbnail_png",
]
