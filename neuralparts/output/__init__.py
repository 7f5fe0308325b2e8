"""The files of an output folder: names, locks, finished or not, summary."""

from neuralparts.output.folder import Running, check_folder_free, prepare_folder, remove_leavings
from neuralparts.output.gallery import write_gallery
from neuralparts.output.json_values import plain
from neuralparts.output.locks import BusyError, OutputError
from neuralparts.output.part_files import PartFiles, content_of, outcome
from neuralparts.output.summary import Summary, summary_row, text

__all__ = [
    "BusyError",
    "OutputError",
    "PartFiles",
    "Running",
    "Summary",
    "check_folder_free",
    "content_of",
    "outcome",
    "plain",
    "prepare_folder",
    "remove_leavings",
    "summary_row",
    "text",
    "write_gallery",
]
