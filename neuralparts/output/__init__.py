"""The files of an output folder: names, locks, finished or not, summary."""

from neuralparts.output.folder import (
    FOLDER_NAMES,
    WIDTHS_NAME,
    Running,
    check_folder_free,
    prepare_folder,
    remove_leavings,
)
from neuralparts.output.folder_widths import read_folder_widths, write_folder_widths
from neuralparts.output.gallery import write_gallery
from neuralparts.output.json_values import plain
from neuralparts.output.locks import BusyError, OutputError, locked
from neuralparts.output.packing import Packing, pack_folder
from neuralparts.output.part_files import PartFiles, content_of, decisive, outcome, outputs_of
from neuralparts.output.records import has_sizes_alone, read_record
from neuralparts.output.staging import StagedFiles, failure_line, find_finished
from neuralparts.output.summary import Summary, summary_row, text
from neuralparts.output.verification import verify_folder

__all__ = [
    "FOLDER_NAMES",
    "WIDTHS_NAME",
    "BusyError",
    "OutputError",
    "Packing",
    "PartFiles",
    "Running",
    "StagedFiles",
    "Summary",
    "check_folder_free",
    "content_of",
    "decisive",
    "failure_line",
    "find_finished",
    "has_sizes_alone",
    "locked",
    "outcome",
    "outputs_of",
    "pack_folder",
    "plain",
    "prepare_folder",
    "read_folder_widths",
    "read_record",
    "remove_leavings",
    "summary_row",
    "text",
    "verify_folder",
    "write_folder_widths",
    "write_gallery",
]
