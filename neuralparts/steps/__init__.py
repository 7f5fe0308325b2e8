"""The steps of a part that is labelled: train the network, reconstruct the surface, evaluate it, write the report.

In: what `inputs.py` made of a file, and the flags of a fit. Out: what each step made, as values that are handed on;
`network_stages.py` puts the steps together. Lengths are domain units unless a name says file units.
"""

from neuralparts.steps.evaluation import evaluate, evaluate_off_surface
from neuralparts.steps.event_log import EventLog, open_log
from neuralparts.steps.handing_over import read_labelled, write_labelled
from neuralparts.steps.reconstruction import reconstruct, write_reconstruction
from neuralparts.steps.rounding import round_fitted
from neuralparts.steps.training import fit_network, fit_settings, make_network, member, refit, tell_fit
from neuralparts.steps.width_search import about_search, searched_network
from neuralparts.steps.writing import Drawings, about_fit, draw_report, versions, write_report

__all__ = [
    "Drawings",
    "EventLog",
    "about_fit",
    "about_search",
    "draw_report",
    "evaluate",
    "evaluate_off_surface",
    "fit_network",
    "fit_settings",
    "make_network",
    "member",
    "open_log",
    "read_labelled",
    "reconstruct",
    "refit",
    "round_fitted",
    "searched_network",
    "tell_fit",
    "versions",
    "write_labelled",
    "write_reconstruction",
    "write_report",
]
