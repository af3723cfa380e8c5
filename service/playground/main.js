/** The page: a state, the picture that the service makes of it, and what the visitor does. */
import { computePicture, isSameLayer, layersOf, linkKey, loadLinks, tensorOf, viewsOf } from "./picture.js";
import { isAborted, Problem, Service, sizeOf, Unreachable } from "./service.js";
import { changed, DEFAULTS, decodeFragment, encodeFragment } from "./state.js";
import { isSame, listen } from "./interaction.js";
import { render } from "./vendor/lit-html.js";
import { Features, pageTemplate, shownResults } from "./view.js";

const START = {
  op: "conv",
  view: "forward",
  parameters: {},
  tensors: {
    input: {
      dtype: "float64",
      shape: [1, 5, 5, 1],
      data: [0, 1, 2, 1, 0, 1, 3, 0, 2, 1, 2, 0, 4, 0, 2, 1, 2, 0, 3, 1, 0, 1, 2, 1, 0],
    },
    weight: { dtype: "float64", shape: [3, 3, 1, 1], data: [1, 0, -1, 2, 0, -2, 1, 0, -1] },
  },
};
const MAX_WAIT = 8; // seconds between two tries, while the service does not answer
const RANDOM = [-4, 4];

class Page {
  // what the service said
  ops = null;
  layers = [];
  picture = null;
  problem = null; // the last Problem, if what is shown is not what was asked for
  problems = []; // its findings
  isStale = false; // whether the picture is one of parameters that were
  isBusy = false; // whether calls for the latest state are still to come
  isUnreachable = false;
  asksForKey = false;
  // what the visitor wants
  state = null;
  hovered = null; // cells: {tensor, index}
  focused = null;
  pinned = null;
  editing = null;
  isPainting = false;
  brush = 1;
  isDrawerOpen = false;
  showsAnswers = false;
  sentence = ""; // what is wrong with the link
  said = ""; // to those who cannot see the picture
  // what is loaded when it is needed
  features = new Features(this);
  examples = null; // {title, fragment, note}
  example = null; // the one that is shown
  formulaOf = null;

  changing = Promise.resolve(); // the last of the changes that are made one after the other
  controller = new AbortController(); // of the calls for the latest state
  wait = 1; // seconds
  drawn = 0;

  constructor() {
    this.root = document.getElementById("page");
    this.service = new Service(new URL(".", document.baseURI).href.replace(/\/$/, ""));
    this.root.replaceChildren();
    listen(this);
  }

  get layer() {
    return this.layers.find(({ name }) => name === this.state?.op);
  }

  get view() {
    return viewsOf(this.layer).includes(this.state.view) ? this.state.view : "forward";
  }

  /** The cell whose links are lit. */
  get cell() {
    const cell = this.pinned ?? this.hovered ?? this.focused;
    if (!cell || !this.picture) return null;
    const tensor = cell.tensor === "frame" ? this.picture.frame?.tensor : tensorOf(this.picture, cell.tensor);
    return tensor && cell.index < tensor.data.length ? cell : null;
  }

  async start() {
    this.draw();
    await this.attempt(
      async (signal) => {
        this.ops = await this.service.get("/ops", signal);
        this.layers = layersOf(this.ops);
      },
      () => this.start(),
    );
    if (this.layers.length) await this.open(location.hash);
  }

  /** Show the state that a fragment holds. */
  async open(fragment) {
    this.sentence = "";
    this.example = this.examples?.find((one) => one.fragment === fragment) ?? null;
    let given = START;
    try {
      if (fragment.length > 1) given = await decodeFragment(fragment);
    } catch (error) {
      this.sentence = error.message; // a link that cannot be read: said, and the page starts as without one
    }
    const { tensors, ...asked } = { ...DEFAULTS, ...given };
    const layer = this.layers.find(({ name }) => name === asked.op);
    if (!layer) {
      this.sentence = `There is no layer ${asked.op}.`;
      this.state = { ...DEFAULTS, ...START };
    } else if (Object.keys(tensors).length) this.state = { ...asked, tensors };
    else {
      const isDone = await this.attempt(
        async () => (this.state = await this.fitted(DEFAULTS, asked)),
        () => this.open(fragment),
      );
      if (!isDone || !this.state) return;
    }
    const [tensor, index] = this.state.cell.split(":");
    this.pinned = linkKey(tensor) ? { tensor, index: Number(index) } : null;
    this.hovered = this.focused = this.editing = null;
    await this.refresh();
  }

  /** The state after changes, its operands made to fit. */
  fitted(state, changes) {
    const layer = this.layers.find(({ name }) => name === (changes.op ?? state.op));
    return changed(state, layer, changes, (op) => this.service.get(`/examples/${op}_forward/request.json`));
  }

  /**
   * Change the state, and with it all that is shown. Changes are made one after the other.
   *
   * @param {object | ((state: object) => object)} changes
   * @param {boolean} [isStep]  whether Back undoes it
   */
  change(changes, isStep = false) {
    this.changing = this.changing.then(() => this.#change(changes, isStep));
    return this.changing;
  }

  async #change(changes, isStep) {
    const made = typeof changes === "function" ? changes(this.state) : changes;
    let { state } = this;
    await this.attempt(
      async () => (state = await this.fitted(state, made)),
      () => this.change(changes, isStep),
    );
    if (made.op) this.pinned = null;
    const isOther = !isSameLayer(state, this.state);
    const computes = isOther || state.view !== this.state.view || state.item !== this.state.item;
    if (isOther) this.example = null;
    this.state = state;
    this.remember(isStep);
    if (computes) this.refresh();
    else this.draw();
  }

  /** Write the state into the address, as a step that Back undoes if it is one. */
  async remember(isStep = false) {
    const { state, pinned } = this;
    const fragment = await encodeFragment({ ...state, cell: pinned ? `${pinned.tensor}:${pinned.index}` : "" });
    if (state !== this.state || pinned !== this.pinned) return; // something newer is shown, and remembered
    if (fragment !== location.hash) history[isStep ? "pushState" : "replaceState"](null, "", fragment);
  }

  /** Ask the service for the picture of the state as it is now; what was asked before is no longer wanted. */
  async refresh() {
    this.controller.abort();
    this.controller = new AbortController();
    this.isStale = this.isBusy = true;
    this.draw();
    const { state, layer, layers } = this;
    const isDone = await this.attempt(
      async (signal) => {
        const call = async (path, body) => {
          const answer = await this.service.call(path, body, signal);
          signal.throwIfAborted(); // it may have come while something newer was asked for
          return answer;
        };
        const picture = await computePicture(layer, state, call);
        Object.assign(this, { picture, isStale: false, problem: null, problems: [] });
        this.features.update();
        this.draw();
        await loadLinks(picture, layers, call, () => this.draw());
      },
      () => this.refresh(),
    );
    if (!isDone) return;
    this.isBusy = false;
    this.draw();
    this.drawn += 1;
    document.documentElement.dataset.ready = String(this.drawn);
  }

  /** Run a task; say what went wrong, and try again where that helps. Returns whether it came to an end. */
  async attempt(task, again) {
    const { signal } = this.controller;
    clearTimeout(this.retry);
    let seconds = 0;
    try {
      await task(signal);
      Object.assign(this, { isUnreachable: false, asksForKey: false, wait: 1 });
    } catch (error) {
      if (isAborted(error) || signal.aborted) return false;
      this.isUnreachable = error instanceof Unreachable;
      if (error instanceof Problem) {
        [this.problem, this.problems, this.asksForKey] = [error, error.errors, error.status === 401];
        seconds = error.retryAfter;
      } else if (!this.isUnreachable) throw error;
      if (this.isUnreachable) seconds = this.wait = Math.min(MAX_WAIT, this.wait * 2);
    }
    if (seconds) this.retry = setTimeout(again, seconds * 1000);
    this.draw();
    return true;
  }

  draw() {
    const { state } = this;
    if (this.cell && !this.formulaOf) this.loadFormulas();
    document.documentElement.classList.toggle("present", Boolean(state?.present));
    this.features.close();
    render(pageTemplate(this), this.root);
    if (state?.present) import("./present.js").then(({ fitCells }) => fitCells());
    else document.documentElement.style.removeProperty("--cell");
    if (this.editing) this.root.querySelector(".editor")?.focus();
  }

  /** Formulas are asked for when the first cell has one to show: the page opens the sooner. */
  async loadFormulas() {
    const { formulaOf } = await import("./formula.js");
    this.formulaOf = formulaOf;
    this.draw();
  }

  setValue({ tensor, index }, value) {
    return this.change(({ tensors }) => {
      const before = tensors[tensor] ?? this.picture.gradOutput;
      const data = [...before.data];
      data[index] = value;
      return { tensors: { ...tensors, [tensor]: { ...before, data } } };
    });
  }

  isEditable({ tensor }) {
    return tensor in this.state.tensors || (tensor === "grad_output" && this.state.view.startsWith("grad_"));
  }

  pin(cell) {
    this.pinned = isSame(this.pinned, cell) ? null : cell;
    this.say();
    this.remember();
    this.draw();
  }

  /** Have the formula read out, after the keyboard has moved. */
  say() {
    this.draw();
    this.said = document.getElementById("formula")?.innerText ?? "";
  }

  edit(cell) {
    this.editing = this.isEditable(cell) ? cell : null;
    this.draw();
    this.root.querySelector(".editor")?.select();
  }

  finishEditing(text) {
    const { editing } = this;
    if (!editing) return;
    this.editing = null;
    const value = { "∞": Infinity, "-∞": -Infinity, inf: Infinity, "-inf": -Infinity }[text.trim()] ?? Number(text);
    if (text.trim() && (!Number.isNaN(value) || /^nan$/i.test(text.trim()))) this.setValue(editing, value);
    this.draw();
  }

  togglePaint() {
    this.isPainting = !this.isPainting;
    this.draw();
  }

  setBrush(text) {
    if (text !== "" && Number.isFinite(Number(text))) this.brush = Number(text);
  }

  paint(cell) {
    if (this.isEditable(cell) && cell.tensor !== "frame") this.setValue(cell, this.brush);
  }

  randomize() {
    const [low, high] = RANDOM;
    const random = ({ dtype }) => Math.floor(Math.random() * (high - low + 1)) + (dtype.startsWith("uint") ? 0 : low);
    const isDrawn = ([name, tensor]) => sizeOf(tensor.shape) > 1 && name !== "indices" && name !== "grad_output";
    const drawn = Object.entries(this.state.tensors)
      .filter(isDrawn)
      .map(([name, tensor]) => [name, { ...tensor, data: tensor.data.map(() => random(tensor)) }]);
    return this.change({ tensors: { ...this.state.tensors, ...Object.fromEntries(drawn) } }, true);
  }

  toggleDrawer() {
    this.isDrawerOpen = !this.isDrawerOpen;
    this.draw();
  }

  toggleAnswers() {
    this.showsAnswers = !this.showsAnswers;
    this.draw();
  }

  useKey(event) {
    event.preventDefault();
    this.service.key = new FormData(event.target).get("key");
    this.asksForKey = false;
    return this.layers.length ? this.refresh() : this.start();
  }

  async loadExamples() {
    this.examples ??= await (await fetch(new URL("examples.json", import.meta.url))).json();
    this.draw();
  }

  /** A clicker's keys: from cell to cell of the result, then to the next example. */
  async step(direction) {
    const [name] = shownResults(this.picture);
    const size = sizeOf(tensorOf(this.picture, name).shape.slice(1));
    const first = this.picture.item * size;
    const at = this.pinned?.tensor === name ? this.pinned.index - first + direction : direction > 0 ? 0 : size - 1;
    if (at >= 0 && at < size) return this.pin({ tensor: name, index: first + at });
    await this.loadExamples();
    const count = this.examples.length;
    return this.openExample(this.examples[(this.examples.indexOf(this.example) + direction + count) % count]);
  }

  /** Show an example; a lecture goes on as one. */
  async openExample({ fragment }) {
    const { present } = this.state;
    document.getElementById("examples")?.removeAttribute("open");
    history.pushState(null, "", fragment);
    await this.open(fragment);
    if (present) await this.change({ present });
  }
}

new Page().start();
