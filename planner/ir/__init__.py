"""The intermediate representation: tensors, their representations, operators, the graph."""
