"""The files of an output folder: names, locks, done or not, summary."""

from neuralparts.output.files import (
    Artifacts,
    BusyError,
    OutputError,
    Running,
    Summary,
    check_folder_free,
    content_of,
    plain,
    prepare_folder,
    remove_leavings,
    summary_row,
    text,
    write_gallery,
)

__all__ = [
    "Artifacts",
    "BusyError",
    "OutputError",
    "Running",
    "Summary",
    "check_folder_free",
    "content_of",
    "plain",
    "prepare_folder",
    "remove_leavings",
    "summary_row",
    "text",
    "write_gallery",
]
