// @ts-check
// Runs and times the probes of a calibration through WebGPU. It knows nothing of layouts: what to
// dispatch, on which tensors, comes from the service (calibration_models.py).

import { digest, pattern, scalars } from "./pattern.js";

/**
 * @typedef {object} Tensor
 * @property {string} representation
 * @property {number} bytes
 * @property {number} bound_bytes
 * @property {[number, number, number] | null} extents
 * @property {GPUTextureFormat | null} format
 * @property {number} flat_bytes
 * @property {string} code
 * @property {[number, number, number]} groups
 */
/**
 * @typedef {object} Probe
 * @property {string} key
 * @property {"repack" | "read" | "write"} kind
 * @property {number | null} source
 * @property {number | null} target
 * @property {number} bytes
 * @property {string} code
 * @property {[number, number, number]} groups
 */
/**
 * @typedef {object} Shape
 * @property {number[]} shape
 * @property {number} words
 * @property {boolean} is_checked
 * @property {Tensor[]} tensors
 * @property {Probe[]} probes
 */
/**
 * @typedef {object} Measured
 * @property {string} key
 * @property {number} count dispatches in a batch
 * @property {number[]} ns of one dispatch, in each batch
 * @property {string | null} digest of the bytes that it leaves
 */
/**
 * What can be dispatched: a pipeline with its tensors.
 * @typedef {object} Work
 * @property {GPUComputePipeline} pipeline
 * @property {GPUBindGroup} bindings
 * @property {[number, number, number]} groups
 */
/** @typedef {"timestamps" | "queue"} Timing */

const QUERIES = 4096;
const MOST_COUNT = 4096; // dispatches in a batch
const SHORT_NS = 200_000; // shorter batches say little, whatever the clock
const STEPS = 20; // of the clock that a batch takes at least
const OVERHEADS = 5; // times that of submitting nothing, where the queue is the clock
const MOST_PATTERN = 2 ** 20; // words; larger tensors repeat them
const ROW = 256; // bytes that rows of images are aligned to in buffers
// The standard's numbers: TypeScript's library does not have GPUBufferUsage and its like.
const BUFFER = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, STORAGE: 128, QUERY_RESOLVE: 512 };
const TEXTURE = { COPY_SRC: 1, COPY_DST: 2, TEXTURE_BINDING: 4, STORAGE_BINDING: 8 };
const MAP_MODE_READ = 1;
const LIMITS = /** @type {const} */ ([
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxTextureDimension3D",
]);

/** The device has no memory for a shape's tensors. */
export class NoMemoryError extends Error {}

/** A device of this browser's WebGPU, and its clock. */
export class Gpu {
  /**
   * @param {GPUDevice} device
   * @param {GPUAdapterInfo} info
   * @param {Timing} timing
   */
  constructor(device, info, timing) {
    this.device = device;
    this.info = info;
    this.timing = timing;
    this.resolution = 0; // of the clock, in ns
    this.overhead = 0; // of a batch of nothing, in ns, where the queue is the clock
    if (timing === "timestamps") {
      this.queries = device.createQuerySet({ type: "timestamp", count: QUERIES });
      const usage = BUFFER.QUERY_RESOLVE | BUFFER.COPY_SRC;
      this.resolved = device.createBuffer({ size: 8 * QUERIES, usage });
    }
  }

  /**
   * Opens the browser's GPU, with its largest limits, and finds out how well it can be timed.
   * @param {Timing} [timing] the queue, even where there are timestamps
   */
  static async open(timing) {
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter === null) return null;
    const hasTimestamps = adapter.features.has("timestamp-query") && timing !== "queue";
    const device = await adapter.requestDevice({
      requiredFeatures: hasTimestamps ? ["timestamp-query"] : [],
      requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])),
    });
    const gpu = new Gpu(device, adapter.info, hasTimestamps ? "timestamps" : "queue");
    await gpu.#findResolution();
    return gpu;
  }

  get limits() {
    const { limits } = this.device;
    return {
      max_buffer_size: limits.maxBufferSize,
      max_storage_buffer_binding_size: limits.maxStorageBufferBindingSize,
      max_texture_dimension_3d: limits.maxTextureDimension3D,
    };
  }

  /** ns that a batch takes at least. */
  get least() {
    return Math.max(SHORT_NS, STEPS * this.resolution, OVERHEADS * this.overhead);
  }

  /**
   * ns of each batch, by work and repeat. Works take turns, so that drift affects all alike.
   * @param {Work[]} works
   * @param {number[]} counts dispatches in a batch of each work
   * @param {number} repeats
   * @returns {Promise<number[][]>}
   */
  async batches(works, counts, repeats) {
    /** @type {number[][]} */
    const found = works.map(() => []);
    const most = Math.floor(QUERIES / 2 / works.length);
    for (let done = 0; done < repeats; done += most) {
      const rounds = Math.min(most, repeats - done);
      const times = await (this.timing === "timestamps"
        ? this.#byTimestamps(works, counts, rounds)
        : this.#byQueue(works, counts, rounds));
      for (const [index, time] of times.entries()) found[index % works.length].push(time);
    }
    return found;
  }

  /**
   * @param {Work[]} works
   * @param {number[]} counts
   * @param {number} rounds
   */
  async #byTimestamps(works, counts, rounds) {
    const { device, queries, resolved } = this;
    if (!queries || !resolved) throw new Error("the device has no timestamps");
    let query = 0;
    for (let round = 0; round < rounds; round++) {
      const encoder = device.createCommandEncoder();
      for (const [index, work] of works.entries()) {
        const timestampWrites = {
          querySet: queries,
          beginningOfPassWriteIndex: query++,
          endOfPassWriteIndex: query++,
        };
        encode(encoder.beginComputePass({ timestampWrites }), work, counts[index]);
      }
      device.queue.submit([encoder.finish()]);
    }
    const encoder = device.createCommandEncoder();
    encoder.resolveQuerySet(queries, 0, query, resolved, 0);
    const bytes = await this.read(encoder, resolved, 8 * query);
    const ticks = new BigUint64Array(bytes.buffer);
    return Array.from({ length: query / 2 }, (_, n) => Number(ticks[2 * n + 1] - ticks[2 * n]));
  }

  /**
   * @param {Work[]} works
   * @param {number[]} counts
   * @param {number} rounds
   */
  async #byQueue(works, counts, rounds) {
    const found = [];
    for (let round = 0; round < rounds; round++) {
      for (const [index, work] of works.entries()) {
        const time = await this.#submitted((encoder) =>
          encode(encoder.beginComputePass(), work, counts[index]),
        );
        found.push(time - this.overhead);
      }
    }
    return found;
  }

  /**
   * ns from submission to completion.
   * @param {(encoder: GPUCommandEncoder) => void} record
   */
  async #submitted(record) {
    const encoder = this.device.createCommandEncoder();
    record(encoder);
    const commands = encoder.finish();
    const began = performance.now();
    this.device.queue.submit([commands]);
    await this.device.queue.onSubmittedWorkDone();
    return (performance.now() - began) * 1e6;
  }

  async #findResolution() {
    if (this.timing === "timestamps") {
      /** @type {Set<bigint>} */
      const seen = new Set();
      while (seen.size < 4) for (const tick of await this.#ticks()) seen.add(tick);
      const ticks = [...seen].sort((a, b) => (a < b ? -1 : 1));
      this.resolution = Math.min(...ticks.slice(1).map((tick, n) => Number(tick - ticks[n])));
      return;
    }
    const steps = [];
    let last = performance.now();
    while (steps.length < 20) {
      const now = performance.now();
      if (now > last) steps.push((now - last) * 1e6);
      last = now;
    }
    this.resolution = Math.min(...steps);
    const overheads = [];
    while (overheads.length < 20) overheads.push(await this.#submitted(() => {}));
    this.overhead = median(overheads);
  }

  /** The timestamps of passes without work. */
  async #ticks() {
    const { device, queries, resolved } = this;
    if (!queries || !resolved) throw new Error("the device has no timestamps");
    const encoder = device.createCommandEncoder();
    for (let query = 0; query < 64; query += 2) {
      const timestampWrites = {
        querySet: queries,
        beginningOfPassWriteIndex: query,
        endOfPassWriteIndex: query + 1,
      };
      encoder.beginComputePass({ timestampWrites }).end();
    }
    encoder.resolveQuerySet(queries, 0, 64, resolved, 0);
    return new BigUint64Array((await this.read(encoder, resolved, 8 * 64)).buffer);
  }

  /**
   * Submits what is recorded, and reads the start of a buffer afterwards.
   * @param {GPUCommandEncoder} encoder
   * @param {GPUBuffer} buffer
   * @param {number} size
   */
  async read(encoder, buffer, size) {
    const usage = BUFFER.MAP_READ | BUFFER.COPY_DST;
    const staging = this.device.createBuffer({ size, usage });
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
    this.device.queue.submit([encoder.finish()]);
    await staging.mapAsync(MAP_MODE_READ);
    const bytes = new Uint8Array(staging.getMappedRange().slice(0));
    staging.destroy();
    return bytes;
  }

  /**
   * How many dispatches of each work make a batch that the clock can time.
   * @param {Work[]} works
   */
  async counts(works) {
    const counts = works.map(() => 1);
    await this.batches(works, counts, 1); // The first run of each is slower.
    for (;;) {
      const times = await this.batches(works, counts, 2);
      let isLongEnough = true;
      for (const [index, found] of times.entries()) {
        const time = Math.max(...found);
        if (time >= this.least || counts[index] === MOST_COUNT) continue;
        isLongEnough = false;
        const factor = Math.min(16, Math.max(1.5, (1.2 * this.least) / Math.max(time, 1)));
        counts[index] = Math.min(MOST_COUNT, Math.ceil(counts[index] * factor));
      }
      if (isLongEnough) return counts;
    }
  }
}

/**
 * @param {GPUComputePassEncoder} pass
 * @param {Work} work
 * @param {number} count
 */
function encode(pass, work, count) {
  pass.setPipeline(work.pipeline);
  pass.setBindGroup(0, work.bindings);
  for (let n = 0; n < count; n++) pass.dispatchWorkgroups(...work.groups);
  pass.end();
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The probes of a shape, on tensors in a device's memory. */
export class Bench {
  /** @type {(GPUBuffer | GPUTexture)[]} */
  #made = [];
  /** @type {Map<string, GPUTexture>} */
  #images = new Map();

  /**
   * @param {Gpu} gpu
   * @param {Shape} shape
   * @param {string} library WGSL before the code of each shader
   */
  constructor(gpu, shape, library) {
    this.gpu = gpu;
    this.shape = shape;
    this.library = library;
    /** The probes that the device's limits allow. */
    this.probes = shape.probes.filter(({ source, target }) =>
      [source, target].every((side) => side === null || this.#fits(shape.tensors[side])),
    );
  }

  /** @param {Tensor} tensor */
  #fits({ extents, bound_bytes, flat_bytes }) {
    const { max_buffer_size, max_storage_buffer_binding_size, max_texture_dimension_3d } =
      this.gpu.limits;
    const most = Math.min(max_buffer_size, max_storage_buffer_binding_size);
    const isImage = extents !== null && Math.max(...extents) <= max_texture_dimension_3d;
    return flat_bytes <= most && (extents === null ? bound_bytes <= most : isImage);
  }

  /**
   * Allocates tensors, compiles shaders, and fills tensors with the pattern of a seed.
   * Throws `NoMemoryError` where the device has too little memory.
   * @param {number} seed
   * @param {Set<string>} [keys] of the probes that are wanted, else all
   */
  async prepare(seed, keys) {
    const { device } = this.gpu;
    if (keys) this.probes = this.probes.filter(({ key }) => keys.has(key));
    device.pushErrorScope("out-of-memory");
    const sides = this.probes.flatMap(({ source, target }) => [source, target]);
    const tensors = this.shape.tensors.filter((_, index) => sides.includes(index));
    const sizes = tensors.flatMap((t) => [t.flat_bytes, t.extents === null ? t.bound_bytes : 0]);
    const size = Math.max(16, ...sizes);
    // A buffer's place in memory changes its speed: all are at the start of these two.
    this.arenas = [this.#buffer(size), this.#buffer(size)];
    this.flat = this.shape.is_checked ? this.#buffer(size) : this.arenas[1];
    this.scalars = [this.#buffer(16), this.#buffer(16)];
    const images = tensors.filter(({ extents }) => extents !== null);
    this.zeros = this.#buffer(Math.max(16, ...images.map(stagingBytes)));
    for (const tensor of images) for (const side of [0, 1]) this.#image(tensor, side);
    if ((await device.popErrorScope()) !== null) throw new NoMemoryError();

    device.queue.writeBuffer(this.scalars[0], 0, scalars(seed));
    this.#fill(seed, size);
    const buffer = this.flat;
    this.fillings = new Map(
      await Promise.all(
        tensors.map(async (tensor) => {
          const flat = { buffer, size: tensor.flat_bytes };
          const work = await this.#work(tensor.code, tensor.groups, [flat, this.#side(tensor, 0)]);
          return /** @type {const} */ ([tensor, work]);
        }),
      ),
    );
    this.works = await Promise.all(
      this.probes.map(({ code, groups, source, target }) =>
        this.#work(code, groups, [this.#tensor(source, 0), this.#tensor(target, 1)]),
      ),
    );
    const encoder = device.createCommandEncoder();
    for (const tensor of images) {
      encode(encoder.beginComputePass(), this.#filling(tensor), 1);
    }
    device.queue.submit([encoder.finish()]);
  }

  /**
   * Runs each probe once, and returns the digests of what they leave; null where none is wanted.
   * @returns {Promise<(string | null)[]>}
   */
  async check() {
    const found = [];
    for (const [index, probe] of this.probes.entries()) {
      const isWanted = this.shape.is_checked && probe.target !== null;
      found.push(isWanted ? await this.#left(probe, this.works?.[index]) : null);
    }
    return found;
  }

  /**
   * The digest of what a probe leaves in a target that held zeros.
   * @param {Probe} probe
   * @param {Work | undefined} work
   */
  async #left(probe, work) {
    const { zeros, arenas } = this;
    if (!work || !zeros || !arenas || probe.target === null) throw new Error("not prepared");
    const encoder = this.gpu.device.createCommandEncoder();
    if (probe.source !== null) {
      const filling = this.#filling(this.shape.tensors[probe.source]);
      encode(encoder.beginComputePass(), filling, 1);
    }
    const target = this.shape.tensors[probe.target];
    if (target.extents === null) {
      encoder.clearBuffer(arenas[1], 0, target.bound_bytes);
      encode(encoder.beginComputePass(), work, 1);
      const bytes = await this.gpu.read(encoder, arenas[1], target.bound_bytes);
      return digest(bytes.subarray(0, target.bytes));
    }
    const [x, y, z] = target.extents;
    const layout = { bytesPerRow: stride(target), rowsPerImage: y };
    const texture = this.#image(target, 1);
    encoder.clearBuffer(zeros);
    encoder.copyBufferToTexture({ buffer: zeros, ...layout }, { texture }, [x, y, z]);
    encode(encoder.beginComputePass(), work, 1);
    encoder.copyTextureToBuffer({ texture }, { buffer: zeros, ...layout }, [x, y, z]);
    const bytes = await this.gpu.read(encoder, zeros, stagingBytes(target));
    return digest(withoutPadding(bytes, target));
  }

  /**
   * Times each probe; what it leaves is in `digests`, in their order.
   * @param {number} repeats
   * @param {(string | null)[]} digests
   * @returns {Promise<Measured[]>}
   */
  async measure(repeats, digests) {
    const works = this.works ?? [];
    if (works.length === 0) return [];
    const counts = await this.gpu.counts(works);
    const times = await this.gpu.batches(works, counts, repeats);
    return this.probes.map(({ key }, index) => ({
      key,
      count: counts[index],
      ns: times[index].map((time) => Math.max(time, 1) / counts[index]),
      digest: digests[index],
    }));
  }

  close() {
    for (const each of this.#made) each.destroy();
  }

  /** @param {number} size */
  #buffer(size) {
    const usage = BUFFER.STORAGE | BUFFER.COPY_SRC | BUFFER.COPY_DST;
    const made = this.gpu.device.createBuffer({ size: Math.ceil(size / 16) * 16, usage });
    this.#made.push(made);
    return made;
  }

  /**
   * @param {Tensor} tensor
   * @param {number} side 0 for a source, 1 for a target
   */
  #image(tensor, side) {
    const name = `${tensor.representation} ${side}`;
    const known = this.#images.get(name);
    if (known) return known;
    if (tensor.extents === null || tensor.format === null)
      throw new Error("the tensor is a buffer");
    const made = this.gpu.device.createTexture({
      size: tensor.extents,
      dimension: "3d",
      format: tensor.format,
      usage:
        TEXTURE.STORAGE_BINDING | TEXTURE.TEXTURE_BINDING | TEXTURE.COPY_SRC | TEXTURE.COPY_DST,
    });
    this.#images.set(name, made);
    this.#made.push(made);
    return made;
  }

  /**
   * @param {Tensor} tensor
   * @param {number} side
   * @returns {GPUBindingResource}
   */
  #side(tensor, side) {
    if (tensor.extents !== null) return this.#image(tensor, side).createView();
    if (!this.arenas) throw new Error("not prepared");
    return { buffer: this.arenas[side], size: tensor.bound_bytes };
  }

  /**
   * @param {number | null} index
   * @param {number} side
   * @returns {GPUBindingResource}
   */
  #tensor(index, side) {
    if (index !== null) return this.#side(this.shape.tensors[index], side);
    if (!this.scalars) throw new Error("not prepared");
    return { buffer: this.scalars[side] };
  }

  /** @param {Tensor} tensor */
  #filling(tensor) {
    const work = this.fillings?.get(tensor);
    if (!work) throw new Error("not prepared");
    return work;
  }

  /**
   * @param {string} code
   * @param {[number, number, number]} groups
   * @param {GPUBindingResource[]} resources
   * @returns {Promise<Work>}
   */
  async #work(code, groups, resources) {
    const { device } = this.gpu;
    const module = device.createShaderModule({ code: this.library + code });
    const pipeline = await device.createComputePipelineAsync({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    const layout = pipeline.getBindGroupLayout(0);
    return { pipeline, bindings: device.createBindGroup({ layout, entries }), groups };
  }

  /**
   * Writes the pattern into the second arena, over and over, and copies it.
   * @param {number} seed
   * @param {number} size bytes of an arena
   */
  #fill(seed, size) {
    const { device } = this.gpu;
    if (!this.arenas || !this.flat) throw new Error("not prepared");
    const [first, second] = this.arenas;
    const words = pattern(seed, Math.min(this.shape.words, MOST_PATTERN, size >> 2));
    device.queue.writeBuffer(second, 0, words);
    for (let done = words.byteLength; done < size; done *= 2) {
      const part = Math.min(done, size - done);
      const encoder = device.createCommandEncoder();
      // Within one buffer nothing can be copied.
      encoder.copyBufferToBuffer(second, 0, first, 0, part);
      encoder.copyBufferToBuffer(first, 0, second, done, part);
      device.queue.submit([encoder.finish()]);
    }
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(second, 0, first, 0, size);
    if (this.flat !== second) encoder.copyBufferToBuffer(second, 0, this.flat, 0, size);
    device.queue.submit([encoder.finish()]);
  }
}

/** @param {Tensor} tensor */
const rowBytes = ({ bytes, extents }) => {
  const [, y, z] = extents ?? [0, 1, 1];
  return bytes / (y * z);
};

/** @param {Tensor} tensor */
const stride = (tensor) => Math.ceil(rowBytes(tensor) / ROW) * ROW;

/**
 * Bytes of the buffer through which an image is read.
 * @param {Tensor} tensor
 */
function stagingBytes(tensor) {
  const [, y, z] = tensor.extents ?? [0, 0, 0];
  return stride(tensor) * y * z;
}

/**
 * An image's bytes without what aligns its rows.
 * @param {Uint8Array} bytes
 * @param {Tensor} tensor
 */
function withoutPadding(bytes, tensor) {
  const [row, step] = [rowBytes(tensor), stride(tensor)];
  const packed = new Uint8Array(tensor.bytes);
  for (let n = 0; n * row < packed.length; n++) {
    packed.set(bytes.subarray(n * step, n * step + row), n * row);
  }
  return packed;
}
