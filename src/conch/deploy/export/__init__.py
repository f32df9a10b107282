"""A network as files of an engine, proved equal to the torch module it came from."""

from conch.deploy.export.candidates import check_options, export_best
from conch.deploy.export.options import BACKENDS, CannotExport, Exported, ExportOptions, Rejection
from conch.deploy.export.prove import Difference

__all__ = [
    "BACKENDS",
    "CannotExport",
    "Difference",
    "ExportOptions",
    "Exported",
    "Rejection",
    "check_options",
    "export_best",
]
