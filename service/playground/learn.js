/**
 * Learn the filter: forward, backward and steps of gradient descent find the weight that made a target.
 */

import { short } from "./grids.js";
import { Panel, counted, tensorFigure } from "./panel.js";
import { filled } from "./service.js";
import { html, nothing, svg } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Tensor} Tensor */

const SIZE = 12; // of the picture that it learns from
const CLOSE = 1e-6; // a loss at which the filter is found
const MOST_STEPS = 500;
const GROWING = 3; // steps in a row with a larger loss, after which it gives up
const PAUSE = 60; // ms from one step to the next, to be watched
const DEFAULT_RATE = 0.3;
const ACTIVATIONS = ["N", "*spatial0", "*spatial1", "C"];
const KERNELS = ["*kernel0", "*kernel1", "C/groups", "C_out"];

/** The weights to be found, row by row. */
export const HIDDEN = {
  "Sobel across": [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  "Sobel down": [-1, -2, -1, 0, 0, 0, 1, 2, 1],
  blur: [1, 2, 1, 2, 4, 2, 1, 2, 1].map((value) => value / 16),
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
};

/** Numbers of -1, 0 and 1 that are the same for the same seed. */
export function randomSigns(count, seed) {
  let state = seed >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * 3) - 1;
  });
}

/** The panel of the tab "learn". */
export class Learn extends Panel {
  constructor(context) {
    super(context);
    this.hiddenName = "Sobel across";
    this.dtype = "float64";
    this.rate = DEFAULT_RATE;
    this.seed = 1;
    this.shown = false;
  }

  async start() {
    await this.#begin();
  }

  /** The target is the service's answer, with the hidden weight. */
  async #begin() {
    const tensor = (shape, data) => ({ dtype: this.dtype, shape, data: this.#rounded(data) });
    this.input = tensor([1, SIZE, SIZE, 1], randomSigns(SIZE * SIZE, this.seed));
    this.hidden = tensor([3, 3, 1, 1], HIDDEN[this.hiddenName]);
    this.weight = filled([3, 3, 1, 1], 0, this.dtype);
    this.losses = [];
    this.growing = 0;
    this.status = "";
    this.running = false;
    await this.attempt(async (call) => {
      this.target = (await call("/conv/forward", { input: this.input, weight: this.hidden })).output;
      await this.#forward(call);
    });
  }

  /** What the weight now gives, and how far it is from the target. */
  async #forward(call) {
    this.output = (await call("/conv/forward", { input: this.input, weight: this.weight })).output;
    const squares = this.output.data.map((value, index) => (value - this.target.data[index]) ** 2);
    const loss = squares.reduce((sum, value) => sum + value, 0) / squares.length;
    this.growing = loss > this.losses.at(-1) ? this.growing + 1 : 0;
    this.losses.push(loss);
  }

  async #step(call) {
    const scale = 2 / this.target.data.length;
    const data = this.#rounded(this.output.data.map((value, index) => scale * (value - this.target.data[index])));
    const { grad_weight: gradient } = await call("/conv/backward", {
      grad_output: { ...this.output, data },
      input: this.input,
      weight: this.weight,
      wrt: ["weight"],
    });
    const moved = this.weight.data.map((value, index) => value - this.rate * gradient.data[index]);
    this.weight = { ...this.weight, data: this.#rounded(moved) };
    await this.#forward(call);
    this.#judge();
  }

  #judge() {
    const steps = this.losses.length - 1;
    const loss = this.losses.at(-1);
    if (loss < CLOSE) this.#finish(`Found after ${counted(steps, "step")}: the loss is ${short(loss)}.`);
    else if (!Number.isFinite(loss) || this.growing >= GROWING) {
      this.#finish(`The loss grows, to ${short(loss)} after ${counted(steps, "step")}: take smaller steps.`);
    } else if (steps >= MOST_STEPS) this.#finish(`Stopped after ${steps} steps: the loss is ${short(loss)}.`);
  }

  #finish(status) {
    this.status = status;
    this.running = false;
  }

  #rounded(data) {
    return this.dtype === "float32" ? data.map(Math.fround) : data;
  }

  /** Steps until it is found, the loss grows, or it is paused. */
  async #run() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.running = true;
    this.status = "";
    await this.attempt(async (call) => {
      while (this.running) {
        await this.#step(call);
        if (still) continue;
        this.context.redraw();
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    });
    this.running = false;
  }

  #toggle() {
    if (!this.running) return this.#run();
    this.#finish(`Paused after ${counted(this.losses.length - 1, "step")}.`);
    return this.context.redraw();
  }

  #again(changes = {}) {
    Object.assign(this, changes);
    return this.#begin();
  }

  stop() {
    this.running = false;
    super.stop();
  }

  get #ended() {
    return this.losses.length > MOST_STEPS || !(this.losses.at(-1) >= CLOSE && this.losses.at(-1) < Infinity);
  }

  template() {
    if (!this.output) return html`<p>${this.trouble ? this.alarm() : "Asking the service for the target …"}</p>`;
    const steps = this.losses.length - 1;
    return html`<div class="learn">
      <p>
        A weight of 3 × 3 is hidden. Only what it makes of the picture is known: the target. Each step is one call forward,
        one backward, and <code>weight − rate · ∂loss/∂weight</code>, where the loss is the mean of (output − target)².
      </p>
      ${this.#controls()} ${this.alarm()}
      <p class="learn-now"><b>Step ${steps}</b>, loss <b data-loss=${this.losses.at(-1)}>${short(this.losses.at(-1))}</b></p>
      <p class="learn-status" aria-live="polite">${this.status}</p>
      <div class="columns">
        ${lossCurve(this.losses)}
        ${figure("The weight now", this.weight, "learned", KERNELS)}
        ${
          this.shown
            ? [
                figure(`Hidden: ${this.hiddenName}`, this.hidden, "hidden", KERNELS),
                figure("Now − hidden", difference(this.weight, this.hidden), "error", KERNELS),
              ]
            : nothing
        }
      </div>
      <details class="learn-pictures">
        <summary>The picture, the target, and output − target</summary>
        <div class="columns">
          ${figure("Input", this.input, "picture", ACTIVATIONS)} ${figure("Target", this.target, "target", ACTIVATIONS)}
          ${figure("Output − target", difference(this.output, this.target), "residual", ACTIVATIONS)}
        </div>
      </details>
    </div>`;
  }

  #controls() {
    const exponent = Math.log10(this.rate);
    return html`<div class="tools">
      <button type="button" data-action="step" ?disabled=${this.running || this.busy || this.#ended}
        @click=${() => this.attempt((call) => this.#step(call))}>Step</button>
      <button type="button" data-action="run" ?disabled=${!this.running && (this.busy || this.#ended)}
        @click=${() => this.#toggle()}>${this.running ? "Pause" : "Run"}</button>
      <button type="button" data-action="again" @click=${() => this.#again()}>Start again</button>
      <label>Learning rate
        <input type="range" name="rate" min="-3" max="0.5" step="0.01" .value=${String(exponent)}
          aria-valuetext=${short(this.rate)} @input=${(event) => this.#setRate(10 ** Number(event.target.value))}>
        <output>${short(this.rate)}</output>
      </label>
      <label>Hidden weight
        <select name="hidden" @change=${(event) => this.#again({ hiddenName: event.target.value })}>
          ${Object.keys(HIDDEN).map((name) => html`<option ?selected=${name === this.hiddenName}>${name}</option>`)}
        </select>
      </label>
      <label>Numbers
        <select name="dtype" @change=${(event) => this.#again({ dtype: event.target.value })}>
          ${["float64", "float32"].map((dtype) => html`<option ?selected=${dtype === this.dtype}>${dtype}</option>`)}
        </select>
      </label>
      <button type="button" data-action="picture" @click=${() => this.#again({ seed: this.seed + 1 })}>Another picture</button>
      <label><input type="checkbox" name="show" .checked=${this.shown} @change=${(event) => this.#show(event.target.checked)}>
        Show the hidden weight</label>
    </div>`;
  }

  #setRate(rate) {
    this.rate = rate;
    this.context.redraw();
  }

  #show(shown) {
    this.shown = shown;
    this.context.redraw();
  }
}

const difference = (one, other) => ({ ...one, data: one.data.map((value, index) => value - other.data[index]) });

const figure = (title, tensor, name, axes) => tensorFigure({ tensor, name, title, axes });

const WIDTH = 320; // as in the viewBox
const HEIGHT = 180;
const LEFT = 48; // for the numbers at the ticks
const BOTTOM = 34;
const TOP = 8;

/** The loss after each step, on a logarithmic axis. */
export function lossCurve(losses) {
  const drawn = losses.filter((loss) => loss > 0 && Number.isFinite(loss)).map(Math.log10);
  const high = Math.ceil(Math.max(0, ...drawn));
  const low = Math.min(high - 1, Math.floor(Math.min(-6, ...drawn)));
  const last = Math.max(10, losses.length - 1);
  const x = (step) => LEFT + ((WIDTH - LEFT - 8) * step) / last;
  const y = (power) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - power)) / (high - low);
  const points = losses.flatMap((loss, step) =>
    loss > 0 && Number.isFinite(loss) ? [`${x(step).toFixed(1)},${y(Math.log10(loss)).toFixed(1)}`] : [],
  );
  const spacing = Math.ceil((high - low) / 6);
  const powers = Array.from({ length: high - low + 1 }, (_, index) => low + index).filter((power) => power % spacing === 0);
  const label = `Loss on a logarithmic axis: ${short(losses[0])} at the start${
    losses.length > 1 ? `, ${short(losses.at(-1))} after ${counted(losses.length - 1, "step")}` : ""
  }.`;
  return html`<figure><figcaption>Loss</figcaption>
    <svg class="loss" role="img" aria-label=${label} viewBox="0 0 320 180">
      ${powers.map(
        (power) => svg`<line class="tick" x1=${LEFT} x2=${WIDTH - 8} y1=${y(power)} y2=${y(power)}></line>
          <text x=${LEFT - 6} y=${y(power) + 4} text-anchor="end">10<tspan dy="-5">${power}</tspan></text>`,
      )}
      ${[0, Math.round(last / 2), last].map(
        (step) => svg`<text x=${x(step)} y=${HEIGHT - BOTTOM + 14} text-anchor="middle">${step}</text>`,
      )}
      <text x=${(LEFT + WIDTH) / 2} y=${HEIGHT - 4} text-anchor="middle">step</text>
      <polyline points=${points.join(" ")}></polyline>
      ${points.length ? svg`<circle r="3" cx=${points.at(-1).split(",")[0]} cy=${points.at(-1).split(",")[1]}></circle>` : nothing}
    </svg>
  </figure>`;
}
