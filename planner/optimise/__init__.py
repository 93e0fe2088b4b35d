"""From a graph to its cheapest plan: the layout problem, its solution, memory objects."""
