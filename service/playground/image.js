/** The tab "image": filters and poolings on a picture of one's own, and the numbers of a part of it. */
import { plainGrid, short } from "./grids.js";
import { Panel, counted } from "./panel.js";
import * as photo from "./photo.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Tensor} Tensor */

const LOUPE = 16; // rows and columns
const MAX_STEPS = 4;
const OWN = "the weight above";
const POOL_SIZES = [2, 3, 4, 5, 6, 7, 8];
const CHANNELS = ["red", "green", "blue"];
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const LEAP = 8; // of the arrow keys with Shift
const CONTRASTS = { clip: "as they are", absolute: "absolute values", stretch: "stretched" };

/** A part of a picture around a place: first rows and columns, and how many. */
export function partAround(place, sizes) {
  return place.map((at, axis) => {
    const count = Math.min(LOUPE, sizes[axis]);
    const first = Math.min(Math.max(0, at - count / 2), sizes[axis] - count);
    return [Math.floor(first), Math.floor(first) + count - 1];
  });
}

/** A number of bytes in words. */
export const bytes = (count) => (count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`);

/** The panel of the tab "image". */
export class ImageLab extends Panel {
  constructor(context) {
    super(context);
    this.isGray = true;
    this.contrast = "absolute";
    this.steps = [{ name: "Sobel across", size: 2 }];
    this.channel = 0;
    this.isByKey = false;
    this.source = this.#canvas("The picture");
    this.drawn = this.#canvas("The result");
    this.listening = new AbortController();
  }

  start() {
    addEventListener("paste", (event) => this.#take(event.clipboardData?.files), { signal: this.listening.signal });
    this.#use(photo.DRAWINGS["ramp and shapes"]());
  }

  stop() {
    this.listening.abort();
    super.stop();
  }

  #canvas(title) {
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `${title}; the arrow keys move the loupe`);
    const point = (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      const [row, column] = [((event.clientY - top) / height) * canvas.height, ((event.clientX - left) / width) * canvas.width];
      this.#move([Math.floor(row), Math.floor(column)], [canvas.height, canvas.width], false);
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("keydown", (event) => {
      const step = KEYS[event.key];
      if (!step) return;
      event.preventDefault();
      const place = this.place.map((at, axis) => at + step[axis] * (event.shiftKey ? LEAP : 1));
      this.#move(place, this.#sizes(this.#last), true);
    });
    return canvas;
  }

  /** The picture that the loupe's place counts in: the result, where there is one. */
  get #last() {
    return this.result ?? this.input;
  }

  #sizes = (tensor) => tensor.shape.slice(1, 3);

  /** Move the loupe to a place in a picture of some size. */
  #move(place, sizes, isByKey) {
    const own = this.#sizes(this.#last);
    const moved = place.map((at, axis) =>
      Math.min(own[axis] - 1, Math.max(0, Math.floor((at * own[axis]) / sizes[axis]))),
    );
    this.isByKey = isByKey;
    if (`${moved}` === `${this.place}`) return;
    this.place = moved;
    this.#draw();
  }

  /** Take the first picture of files that were chosen, dropped or pasted. */
  async #take(files) {
    const file = [...(files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) {
      if (files?.length) this.#say("This is no picture.");
      return;
    }
    try {
      this.#use(await photo.canvasOf(file));
    } catch {
      this.#say("The browser cannot read this picture.");
    }
  }

  #say(trouble) {
    this.trouble = trouble;
    this.context.redraw();
  }

  #use(canvas) {
    this.controller.abort(); // what is asked for is of another picture
    this.busy = false;
    this.trouble = "";
    this.original = canvas;
    this.input = photo.tensorOf(canvas, this.isGray);
    this.result = null;
    this.channel = 0;
    this.place = this.#sizes(this.input).map((size) => Math.floor(size / 2));
    this.#draw();
  }

  /** Draw the canvases, with the part in the loupe outlined, and the page. */
  #draw() {
    const { words, of } = photo.contrastOf(this.contrast, this.#last.data);
    photo.paint(this.source, this.input, (value) => value);
    photo.outline(this.source, this.#window);
    this.words = words;
    if (this.result) {
      photo.paint(this.drawn, this.result, of);
      photo.outline(this.drawn, this.place.map((at) => [at, at]));
    }
    this.context.redraw();
  }

  get #own() {
    return photo.ownKernel(this.context.state.op === "conv" ? this.context.state.tensors.weight : null);
  }

  /** Rows and columns of the picture from which the cell at the place is computed. */
  get #window() {
    const { steps, own } = this.applied ?? {};
    return photo.windowOf(this.result ? steps : [], this.place, this.#sizes(this.input), own);
  }

  async #apply() {
    const { input, steps } = this;
    const own = this.#own;
    const begun = performance.now();
    let [sent, received] = [0, 0];
    await this.attempt(async (call) => {
      let tensor = input;
      for (const step of steps) {
        const { output } = await call(...photo.callOf(step, tensor, own));
        sent += 4 * tensor.data.length;
        received += 4 * output.data.length;
        tensor = output;
      }
      const before = this.#sizes(this.#last);
      [this.result, this.applied] = [tensor, { steps, own }];
      const milliseconds = Math.round(performance.now() - begun);
      this.cost = `${counted(steps.length, "call")}, ${milliseconds} ms: ${bytes(sent)} of float32 sent, ${bytes(received)} received; as base64, a third more.`;
      const after = this.#sizes(tensor);
      this.place = this.place.map((at, axis) => Math.floor((at * after[axis]) / before[axis]));
      this.#draw();
    });
  }

  #change(changes) {
    Object.assign(this, changes);
    this.context.redraw();
  }

  #changeStep(index, changes) {
    this.#change({ steps: this.steps.map((step, at) => (at === index ? { ...step, ...changes } : step)) });
  }

  get #isStale() {
    return this.busy || (this.result && this.applied.steps !== this.steps);
  }

  template() {
    if (!this.input) return nothing;
    const size = (tensor) => `${tensor.shape[2]} × ${tensor.shape[1]} pixels`;
    return html`<div class="image-lab" @dragover=${(event) => event.preventDefault()} @drop=${(event) => this.#drop(event)}>
      <p>
        The picture stays in this browser until you press Apply: only then are its numbers sent to the service at
        ${location.host}. Drop or paste a picture, or choose one; it is scaled to at most ${photo.MAX_SIDE} × ${photo.MAX_SIDE}.
      </p>
      ${this.#sources()} ${this.#stepList()} ${this.alarm()}
      <div class="columns">
        <figure>
          <figcaption><b>The picture</b> <span class="shape">${size(this.input)}</span></figcaption>
          ${this.source}
        </figure>
        <figure class=${this.#isStale ? "stale" : ""} ?hidden=${!this.result}>
          <figcaption><b>The result</b> <span class="shape">${this.result ? size(this.result) : ""}</span></figcaption>
          ${this.drawn}
          <p class="hint">${this.words} <span class="cost">${this.cost}</span></p>
        </figure>
      </div>
      ${this.#loupe()}
    </div>`;
  }

  #drop(event) {
    event.preventDefault();
    this.#take(event.dataTransfer.files);
  }

  #sources() {
    return html`<div class="tools">
      <label>Picture <input type="file" name="file" accept="image/*" @change=${(event) => this.#take(event.target.files)}></label>
      ${Object.entries(photo.DRAWINGS).map(
        ([name, draw]) => html`<button type="button" data-drawing=${name} @click=${() => this.#use(draw())}>${name}</button>`,
      )}
      <label><input type="checkbox" name="gray" .checked=${this.isGray} @change=${(event) => this.#setGray(event)}> Gray</label>
    </div>`;
  }

  #setGray(event) {
    this.isGray = event.target.checked;
    this.#use(this.original);
  }

  #stepList() {
    const names = [...Object.keys(photo.FILTERS), ...(this.#own ? [OWN] : []), ...Object.keys(photo.POOLINGS)];
    return html`<ol class="steps">
        ${this.steps.map((step, index) => this.#stepRow(step, index, names))}
      </ol>
      <div class="tools">
        <button type="button" data-action="add" ?disabled=${this.steps.length >= MAX_STEPS}
          @click=${() => this.#change({ steps: [...this.steps, { name: "max pooling", size: 2 }] })}>Add a step</button>
        <button type="button" data-action="apply" class="primary" ?disabled=${this.busy || !this.steps.every(({ name }) => names.includes(name))}
          @click=${() => this.#apply()}>Apply</button>
        <label>Show numbers
          <select name="contrast" @change=${(event) => this.#setContrast(event.target.value)}>
            ${Object.entries(CONTRASTS).map(
              ([name, title]) => html`<option value=${name} ?selected=${name === this.contrast}>${title}</option>`,
            )}
          </select>
        </label>
      </div>`;
  }

  #setContrast(contrast) {
    this.contrast = contrast;
    this.#draw();
  }

  #stepRow({ name, size }, index, names) {
    const remove = () => this.#change({ steps: this.steps.filter((_, at) => at !== index) });
    return html`<li>
      <select name="step" aria-label="step ${index + 1}" @change=${(event) => this.#changeStep(index, { name: event.target.value })}>
        ${names.map((one) => html`<option ?selected=${one === name}>${one}</option>`)}
      </select>
      ${
        photo.POOLINGS[name]
          ? html`<select name="size" aria-label="size of the windows of step ${index + 1}"
              @change=${(event) => this.#changeStep(index, { size: Number(event.target.value) })}>
              ${POOL_SIZES.map((one) => html`<option value=${one} ?selected=${one === size}>${one} × ${one}</option>`)}
            </select>`
          : nothing
      }
      <button type="button" aria-label="Remove step ${index + 1}" ?disabled=${this.steps.length === 1} @click=${remove}>×</button>
    </li>`;
  }

  #loupe() {
    const [rows, columns] = this.#window;
    const centre = [rows, columns].map(([first, last]) => Math.floor((first + last) / 2));
    const inWindow = (row, column) => row >= rows[0] && row <= rows[1] && column >= columns[0] && column <= columns[1];
    const isHere = (row, column) => row === this.place[0] && column === this.place[1];
    const colour = this.isGray ? "" : ` (${CHANNELS[this.channel]})`;
    return html`<section class="loupe" aria-label="Loupe">
      ${
        this.isGray
          ? nothing
          : html`<label>Channel in the loupe
              <select name="channel" @change=${(event) => this.#change({ channel: Number(event.target.value) })}>
                ${CHANNELS.map((name, at) => html`<option value=${at} ?selected=${at === this.channel}>${name}</option>`)}
              </select></label>`
      }
      <p class="loupe-words" aria-live=${this.isByKey ? "polite" : "off"}>${this.#sentence()}</p>
      <div class="columns">
        ${this.#part("loupe-input", `The picture${colour}`, this.input, centre, (...at) => (inWindow(...at) ? "lit" : ""))}
        ${
          this.result
            ? this.#part("loupe-result", `The result${colour}`, this.result, this.place, (...at) => (isHere(...at) ? "here" : ""))
            : nothing
        }
      </div>
    </section>`;
  }

  #sentence() {
    const [row, column] = this.place;
    const last = this.#last;
    const value = short(last.data[(row * last.shape[2] + column) * last.shape[3] + this.channel]);
    if (!this.result) return `Row ${row}, column ${column}: ${value}`;
    const [rows, columns] = this.#window.map(([first, end]) => (first === end ? `${first}` : `${first} to ${end}`));
    return `Row ${row}, column ${column} of the result: ${value}, from rows ${rows} and columns ${columns} of the picture.`;
  }

  #part(name, title, tensor, place, classAt) {
    const [, height, width, channels] = tensor.shape;
    const [[top, bottom], [left, right]] = partAround(place, [height, width]);
    const [rows, columns] = [bottom - top + 1, right - left + 1];
    const pixelOf = (cell) => [top + Math.floor(cell / columns), left + (cell % columns)];
    const indexOf = (cell) => {
      const [row, column] = pixelOf(cell);
      return (row * width + column) * channels + this.channel;
    };
    const values = Array.from({ length: rows * columns }, (_, cell) => tensor.data[indexOf(cell)]);
    const classOf = (index) => {
      const pixel = Math.floor(index / channels);
      return classAt(Math.floor(pixel / width), pixel % width);
    };
    return html`<figure class="tensor">
      <figcaption><b>${title}</b> <span class="shape">rows ${top} to ${bottom}, columns ${left} to ${right}</span></figcaption>
      <div class="panel">${plainGrid({ name, label: title, rows, columns, values, indexOf, classOf })}</div>
    </figure>`;
  }
}
