// @ts-check
// A plan's graph as the server tells it, with what the page asks of it again and again.

/** @import { Unit } from "./text.js" */
/** @typedef {"before" | "after"} Side */
/**
 * @typedef {object} Node
 * @property {string} name
 * @property {"operator" | "input" | "output"} kind
 * @property {number} x
 * @property {number} y
 * @property {number | null} tensor the first that it makes
 * @property {number | null} cost
 */
/**
 * @typedef {object} Edge
 * @property {number} source
 * @property {number} target
 * @property {number} tensor
 * @property {number} layers
 * @property {boolean} is_folded
 */
/** @typedef {{ name: string, shape: string, dtype: string }} Tensor */
/**
 * @typedef {object} Transition
 * @property {number} tensor
 * @property {number} source a representation
 * @property {number} target a representation
 * @property {number} cost
 * @property {number[]} users nodes
 */
/** @typedef {{ representations: (number | null)[], transitions: Transition[] }} SideView */
/**
 * What the server answers: see `GraphView` in graph.py.
 * @typedef {object} View
 * @property {Unit} unit
 * @property {number} node_width
 * @property {number} node_height
 * @property {number} width
 * @property {number} height
 * @property {string[]} representations
 * @property {Node[]} nodes
 * @property {Edge[]} edges
 * @property {Tensor[]} tensors
 * @property {SideView | null} before
 * @property {SideView} after
 */
/** @typedef {{ edge: number, transition: Transition, x: number, y: number }} Mark */

/** One delegate, after planning and, where it is known, before. */
export class PlannedGraph {
  /** @param {View} view */
  constructor(view) {
    this.unit = view.unit;
    this.node_width = view.node_width;
    this.node_height = view.node_height;
    this.width = view.width;
    this.height = view.height;
    this.representations = view.representations;
    this.nodes = view.nodes;
    this.edges = view.edges;
    this.tensors = view.tensors;
    /** @type {number[][]} */
    this.incoming = view.nodes.map(() => []);
    /** @type {number[][]} */
    this.outgoing = view.nodes.map(() => []);
    view.edges.forEach((edge, index) => {
      this.outgoing[edge.source].push(index);
      this.incoming[edge.target].push(index);
    });
    /** @type {Side[]} */
    this.sides = view.before === null ? ["after"] : ["before", "after"];
    // Where nothing is known of before, the page does not offer that side.
    this.views = { before: view.before ?? view.after, after: view.after };
    this.repacks = { before: this.#onEdges("before"), after: this.#onEdges("after") };
    this.haystacks = view.nodes.map((node, index) => this.#haystack(node, index));
  }

  /**
   * The transition on each edge of a side, or null; by edge.
   * @param {Side} side
   */
  #onEdges(side) {
    /** @type {Map<string, Transition>} */
    const byReader = new Map();
    for (const transition of this.views[side].transitions) {
      for (const user of transition.users) byReader.set(`${transition.tensor} ${user}`, transition);
    }
    return this.edges.map((edge) => byReader.get(`${edge.tensor} ${edge.target}`) ?? null);
  }

  /**
   * @param {Node} node
   * @param {number} index
   */
  #haystack(node, index) {
    const tensors = this.outgoing[index]
      .concat(this.incoming[index])
      .map((e) => this.edges[e].tensor);
    const names = tensors.map((t) => this.tensors[t].name);
    return [node.name, this.tensorOf(index)?.name ?? "", ...names].join("\n").toLowerCase();
  }

  /**
   * The first tensor that a node makes, or null.
   * @param {number} node
   */
  tensorOf(node) {
    const tensor = this.nodes[node].tensor;
    return tensor === null ? null : this.tensors[tensor];
  }

  /**
   * The name of the representation that a node makes its first tensor in, or null.
   * @param {number} node
   * @param {Side} side
   */
  representation(node, side) {
    const { tensor, kind } = this.nodes[node];
    if (tensor === null) return null;
    const repack = kind === "output" ? this.repacks[side][this.incoming[node][0]] : null;
    const index = repack ? repack.target : this.views[side].representations[tensor];
    return index === null ? null : this.representations[index];
  }

  /**
   * The node that makes a transition's tensor, or null where nothing in the graph does.
   * @param {Transition} transition
   */
  maker(transition) {
    const edge = this.edges.find((e) => e.tensor === transition.tensor);
    return edge ? edge.source : null;
  }

  /**
   * The transitions of a side on their edges, each with a place on its edge or near its reader.
   * @param {Side} side
   * @returns {Mark[]}
   */
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

  /**
   * Nodes whose operator or a tensor of which has the text in its name.
   * @param {string} text
   */
  search(text) {
    const wanted = text.trim().toLowerCase();
    if (wanted === "") return [];
    return this.haystacks.flatMap((hay, node) => (hay.includes(wanted) ? [node] : []));
  }

  /**
   * How many nodes have each representation on a side, most first.
   * @param {Side} side
   */
  counts(side) {
    /** @type {Map<string | null, number>} */
    const counts = new Map();
    this.nodes.forEach((_, node) => {
      const name = this.representation(node, side);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    });
    return [...counts].sort((a, b) => b[1] - a[1]);
  }
}
