"""A growing ONNX graph: operations are added one by one, each named after itself, and give the names of their results.

In: calls. Out: an `onnx.ModelProto`. It knows nothing of networks. The package onnx is an optional extra.
"""

from types import ModuleType
from typing import Any

import numpy as np

from neuralparts.errors import UserError, missing_package

# The newest operations that the graphs need (BitwiseAnd, BitwiseXor) came with this version of the operator set.
OPSET = 18
# An ONNX file is one protocol buffer, which cannot be longer.
LARGEST_FILE = 2**31 - 2**20


def import_onnx() -> ModuleType:
    """The package onnx. Raises UserError if it is missing."""
    try:
        import onnx
    except ImportError as error:
        raise missing_package("the form onnx", "onnx", "export") from error
    return onnx


class GraphBuilder:
    """An ONNX graph under construction. Values are referred to by their names. Raises UserError if onnx is missing."""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant array: its name."""
        name = f"constant_{len(self._constants)}"
        array = np.array(value, dtype=dtype, order="C")
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def axes(self, *numbers: int) -> str:
        """A list of axes, sizes or places, as some operations take one: its name."""
        return self.constant(numbers, np.int64)

    def add(self, operation: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        """An operation on values: the name of its result, which is `result` or made up."""
        result = result or f"{operation.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operation, list(inputs), [result], **attributes))
        return result

    def cast(self, value: str, dtype: Any) -> str:
        """A value in another dtype: its name."""
        to = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", value, to=to)

    def model(self, name: str, inputs: dict[str, list], outputs: dict[str, list], metadata: dict[str, str]) -> Any:
        """The finished `onnx.ModelProto`. inputs, outputs: shapes of the float32 values by name; a word is any size.

        Raises UserError if the file would be larger than ONNX allows.
        """
        helper = self._onnx.helper
        size = sum(constant.ByteSize() for constant in self._constants)
        if size > LARGEST_FILE:
            raise UserError(f"an ONNX file holds 2 GiB at most, and this network needs {size / 2**30:.1f}; use torch")
        described = [
            [helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape) for name, shape in values.items()]
            for values in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, name, *described, self._constants)
        opset = helper.make_opsetid("", OPSET)
        ir_version = helper.find_min_ir_version_for([opset])
        model = helper.make_model(graph, opset_imports=[opset], ir_version=ir_version, producer_name="neuralparts")
        helper.set_model_props(model, metadata)
        return model
