"""What a person looks at: the page of a part, its curves, the gallery of a folder, a thumbnail."""

from neuralparts.report.pages import curves_png, gallery_html, html_report, thumbnail_png

__all__ = [
    "curves_png",
    "gallery_html",
    "html_report",
    "thumbnail_png",
]
