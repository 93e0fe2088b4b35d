// A plan's graph as the server tells it, with what the page asks of it again and again.

/** One delegate, after planning and, where it is known, before. */
export class PlannedGraph {
  constructor(view) {
    Object.assign(this, view);
    this.incoming = view.nodes.map(() => []);
    this.outgoing = view.nodes.map(() => []);
    view.edges.forEach((edge, index) => {
      this.outgoing[edge.source].push(index);
      this.incoming[edge.target].push(index);
    });
    this.sides = view.before === null ? ["after"] : ["before", "after"];
    this.repacks = Object.fromEntries(this.sides.map((side) => [side, this.#onEdges(side)]));
    this.haystacks = view.nodes.map((node, index) => this.#haystack(node, index));
  }

  /** The transition on each edge of a side, or null; by edge. */
  #onEdges(side) {
    const byReader = new Map();
    for (const transition of this[side].transitions) {
      for (const user of transition.users) byReader.set(`${transition.tensor} ${user}`, transition);
    }
    return this.edges.map((edge) => byReader.get(`${edge.tensor} ${edge.target}`) ?? null);
  }

  #haystack(node, index) {
    const tensors = this.outgoing[index].concat(this.incoming[index]).map((e) => this.edges[e].tensor);
    const names = tensors.map((t) => this.tensors[t].name);
    return [node.name, this.tensorOf(index)?.name ?? "", ...names].join("\n").toLowerCase();
  }

  /** The first tensor that a node makes, or null. */
  tensorOf(node) {
    const tensor = this.nodes[node].tensor;
    return tensor === null ? null : this.tensors[tensor];
  }

  /** The name of the representation that a node makes its first tensor in, or null. */
  representation(node, side) {
    const { tensor, kind } = this.nodes[node];
    if (tensor === null) return null;
    const repack = kind === "output" ? this.repacks[side][this.incoming[node][0]] : null;
    const index = repack ? repack.target : this[side].representations[tensor];
    return index === null ? null : this.representations[index];
  }

  /** The node that makes a transition's tensor, or null where nothing in the graph does. */
  maker(transition) {
    const edge = this.edges.find((e) => e.tensor === transition.tensor);
    return edge ? edge.source : null;
  }

  /** The transitions of a side on their edges, each with a place on its edge or near its reader. */
  marks(side) {
    return this.repacks[side].flatMap((transition, edge) => {
      if (transition === null) return [];
      const { layers, is_folded: isFolded, source, target } = this.edges[edge];
      const [from, to] = [this.nodes[source], this.nodes[target]];
      if (isFolded) return [{ edge, transition, x: to.x - this.node_width / 2 - 10, y: to.y }];
      // A long edge is bent, so that its middle is not between its ends.
      const isShort = layers === 1;
      const x = isShort ? (from.x + to.x) / 2 : to.x - this.node_width / 4;
      const y = isShort ? (from.y + to.y) / 2 : to.y - this.node_height;
      return [{ edge, transition, x, y }];
    });
  }

  /** Nodes whose operator or a tensor of which has the text in its name. */
  search(text) {
    const wanted = text.trim().toLowerCase();
    if (wanted === "") return [];
    return this.haystacks.flatMap((hay, node) => (hay.includes(wanted) ? [node] : []));
  }

  /** How many nodes have each representation on a side, most first. */
  counts(side) {
    const counts = new Map();
    this.nodes.forEach((_, node) => {
      const name = this.representation(node, side);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    });
    return [...counts].sort((a, b) => b[1] - a[1]);
  }
}
