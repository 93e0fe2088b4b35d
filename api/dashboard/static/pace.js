// @ts-check
// When a measurement may go on: not while it is stopped, the page is hidden, or the device throttles.

import { median } from "./webgpu.js";

/** @import { Bench } from "./webgpu.js" */

const SLOWER = 1.5; // times the best: a device whose clock is so much lower throttles
const REPEATS = 5;
const COOLING_MS = 3000;
const MOST_WAITS = 40; // in a row: then this is how fast the device is

/** Holds up what waits at its gate while the page is hidden, or until someone says go on. */
export class Gate {
  isStopped = false;
  /** How often something came between: what was timed meanwhile is worth nothing. */
  interruptions = 0;
  /** @type {(() => void)[]} */
  #waiting = [];

  constructor() {
    document.addEventListener("visibilitychange", () => this.#changed());
  }

  stop() {
    this.isStopped = true;
    this.#changed();
  }

  goOn() {
    this.isStopped = false;
    this.#changed();
  }

  get isOpen() {
    return !this.isStopped && !document.hidden;
  }

  #changed() {
    if (!this.isOpen) {
      this.interruptions++;
      return;
    }
    for (const goOn of this.#waiting.splice(0)) goOn();
  }

  /** Returns once the gate is open. */
  async pass() {
    while (!this.isOpen) {
      await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    }
  }

  /**
   * What is done without anything coming between: it is done again until it is.
   * @template T
   * @param {() => Promise<T>} work
   */
  async undisturbed(work) {
    for (;;) {
      await this.pass();
      const before = this.interruptions;
      const done = await work();
      if (this.interruptions === before) return done;
    }
  }
}

/** Tells by always the same work whether the device throttles. */
export class Thermometer {
  waits = 0;
  #best = Number.POSITIVE_INFINITY;

  /**
   * @param {() => Promise<number>} time of the work
   * @param {() => Promise<unknown>} cool waits for a while
   */
  constructor(time, cool = () => new Promise((resolve) => setTimeout(resolve, COOLING_MS))) {
    this.time = time;
    this.cool = cool;
  }

  /**
   * That of a bench: the time of its first probe.
   * @param {Bench} bench
   */
  static async of(bench) {
    const works = (bench.works ?? []).slice(0, 1);
    const counts = await bench.gpu.counts(works);
    return new Thermometer(async () =>
      median((await bench.gpu.batches(works, counts, REPEATS))[0]),
    );
  }

  /**
   * Returns once the device is about as fast as it ever was.
   * @param {() => void} said that it is waited for
   */
  async wait(said) {
    for (let waits = 0; ; waits++) {
      const time = await this.time();
      if (time <= SLOWER * this.#best || waits === MOST_WAITS) {
        this.#best = waits === MOST_WAITS ? time : Math.min(this.#best, time);
        return;
      }
      this.waits++;
      said();
      await this.cool();
    }
  }
}
