"""The request to write a network as ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """The file to write, and whether the normal form goes into it or the export as it came."""

    out: Path
    canonical: bool = False

    def run(self, network: Network) -> Path:
        """Write the file.

        Raises:
            FilterscopeError: the model is ONNX already and no normal form is wanted, the normal form is not the same
                network, or the file cannot be written.
        """
        form = network.model
        if not self.canonical and not form.converted:
            raise SettingsError(f"{form.path}: is ONNX already; {setting('canonical')} writes its normal form")
        if self.canonical:
            network.prove()
        content = form.proto.SerializeToString(deterministic=True) if self.canonical else form.exported()
        try:
            self.out.write_bytes(content)
        except OSError as error:
            raise SettingsError(f"{self.out}: cannot be written ({error.strerror})") from error
        return self.out
