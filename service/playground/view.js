/** The page as a template of what is known: state, picture, problems. */
import { parameterForm, sizesForm, unplaced } from "./controls.js";
import { full, Marks, markLinks, markMaxima, short, tensorGrids } from "./grids.js";
import { MAX_CELLS, tensorOf, viewsOf } from "./picture.js";
import { html, nothing } from "./vendor/lit-html.js";

const TABS = [
  ["code", "Code"],
  ["table", "Table"],
  ["overlap", "Overlap"],
  ["learn", "Learn the filter"],
  ["image", "Image"],
  ["errors", "Errors"],
];

/** The classes of their modules. */
const FEATURES = {
  compare: "Compare",
  learn: "Learn",
  image: "ImageLab",
  overlap: "Overlap",
  table: "Tables",
  code: "Code",
};

/** What a view is called in the header. */
export function viewTitle(view) {
  if (view.startsWith("grad_")) return `∂${view.slice("grad_".length)}`;
  return view[0].toUpperCase() + view.slice(1);
}

const viewLabel = (view) => (view.startsWith("grad_") ? `gradient of ${view.slice("grad_".length)}` : viewTitle(view));

/** The operands beside which the result of a view stands. */
export function shownOperands(picture) {
  const given = picture.layer.forward.operands.map(({ name }) => name); // in the order of the sum, not of a link
  const names = given.filter((name) => picture.operands[name]);
  if (!picture.view.startsWith("grad_")) return names;
  const differentiated = picture.view.slice("grad_".length);
  if (differentiated === "bias") return ["grad_output"];
  // a gradient of a product does not depend on the operand itself; one of a maximum does
  const isProduct = names.includes("weight");
  return ["grad_output", ...names.filter((name) => name !== "bias" && !(isProduct && name === differentiated))];
}

/** The results of a view. */
export function shownResults(picture) {
  if (picture.view.startsWith("grad_")) return [picture.view];
  return ["output", "indices"].filter((name) => picture.results[name]);
}

/** @param page  See class Page in main.js. */
export function pageTemplate(page) {
  const { state, layer, picture } = page;
  if (!layer || !state)
    return html`${away(page)}${problemBox(page)}
      ${page.asksForKey ? nothing : html`<p class="loading">Asking the service for its layers…</p>`}`;
  const isHidden = (part) => state.hide.includes(part);
  return html`
    ${isHidden("header") ? nothing : header(page)}
    <div id="body">
      ${isHidden("parameters") ? nothing : parameters(page)}
      <main>
        ${away(page)} ${problemBox(page)} ${page.example && !isHidden("examples") ? exampleNote(page.example) : nothing}
        ${state.view === "compare" ? panel(page, "compare") : picture ? pictureTemplate(page) : nothing}
        ${isHidden("tabs") || state.present ? nothing : tabs(page)}
      </main>
    </div>
    <div id="live" aria-live="polite" class="for-screen-readers">${page.said}</div>
  `;
}

function header(page) {
  const { state, layer, layers } = page;
  return html`<header>
    <h1>convpool</h1>
    <label class="layer"
      >Layer
      <select id="op" @change=${(event) => page.change({ op: event.target.value }, true)}>
        ${layers.map(({ name, title }) => html`<option value=${name} ?selected=${name === layer.name}>${title}</option>`)}
      </select>
    </label>
    <nav role="tablist" aria-label="What is shown">
      ${viewsOf(layer).map(
        (view, index) =>
          html`<button
            role="tab"
            data-view=${view}
            aria-label="${viewLabel(view)} (key ${index + 1})"
            aria-selected=${view === page.view}
            tabindex=${view === page.view ? 0 : -1}
            @click=${() => page.change({ view }, true)}
          >
            ${viewTitle(view)}
          </button>`,
      )}
    </nav>
    ${state.hide.includes("examples") ? nothing : examples(page)}
    <button id="present" aria-pressed=${state.present} @click=${() => page.change({ present: !state.present })}>
      ${state.present ? "End presenting" : "Present"}
    </button>
    <a class="docs" href="docs">API</a>
  </header>`;
}

const exampleNote = ({ title, note }) => html`<p id="note"><b>${title}.</b> ${note}</p>`;

function examples(page) {
  return html`<details id="examples" @toggle=${(event) => event.target.open && page.loadExamples()}>
    <summary>Examples</summary>
    <ul>
      ${(page.examples ?? []).map((example) => {
        const open = (event) => {
          event.preventDefault();
          page.openExample(example);
        };
        return html`<li>
          <a href=${example.fragment} @click=${open}><b>${example.title}</b> <span>${example.note}</span></a>
        </li>`;
      })}
    </ul>
  </details>`;
}

function parameters(page) {
  const { layer, state, picture, problems } = page;
  const onChange = (changes) => page.change(changes);
  const common = { operation: layer.forward, state, problems, onChange };
  const isRefused = unplaced(problems, layer.forward).length < problems.length; // what a closed drawer would hide
  return html`<aside id="side" class=${page.isDrawerOpen ? "open" : ""} aria-label="Parameters and sizes">
    <button
      id="drawer"
      aria-expanded=${page.isDrawerOpen}
      aria-controls="parameters"
      @click=${() => page.toggleDrawer()}
    >
      Parameters${isRefused ? ": the service refuses one" : ""}
    </button>
    <div class="forms">
      ${parameterForm({ ...common, resolved: picture?.parameters, resolvedOf: picture?.state.parameters })}
      ${sizesForm(common)}
    </div>
  </aside>`;
}

function away(page) {
  return html`<div id="unreachable" role="status" ?hidden=${!page.isUnreachable}>
    ${
      page.isUnreachable
        ? html`The service does not answer. Trying again… <button @click=${() => page.refresh()}>Try now</button>`
        : nothing
    }
  </div>`;
}

/** What is wrong with the whole, and what no control shows. */
function problemBox(page) {
  const { problem, problems, layer, sentence } = page;
  if (page.asksForKey) return keyForm(page);
  const hasControls = layer && !page.state.hide.includes("parameters");
  const findings = hasControls ? unplaced(problems, layer.forward) : problems;
  const lines = findings.map(({ message }) => message);
  if (problem && !problems.length) lines.push(problem.message);
  if (sentence) lines.push(sentence);
  return html`<div id="problem" role="alert" ?hidden=${!lines.length}>
    ${lines.map((line) => html`<p>${line}</p>`)}
  </div>`;
}

function keyForm(page) {
  return html`<form id="key" @submit=${(event) => page.useKey(event)}>
    <label
      >${page.service.key ? "This service does not take that API key: try another" : "This service asks for an API key"}
      <input name="key" type="password" autocomplete="off" required
    /></label>
    <button>Use it</button>
  </form>`;
}

function pictureTemplate(page) {
  const { picture, state, cell } = page;
  const marks = new Marks();
  markMaxima(picture, marks);
  if (cell) markLinks(picture, cell, marks, Boolean(page.pinned));
  const hidesAnswers = state.hide.includes("answers") && !page.showsAnswers;
  const results = shownResults(picture);
  const figure = (name) =>
    tooLarge(picture, name) ??
    tensorGrids(picture, {
      name,
      title: name,
      marks,
      isEditable: !results.includes(name),
      editing: page.editing,
      tabStop: page.focused,
      hidesNumbers: hidesAnswers && results.includes(name),
    });
  const operands = shownOperands(picture);
  return html`<section
      id="picture"
      class="${page.isStale ? "stale" : ""}"
      aria-label="The layer"
      aria-busy=${page.isBusy}
      data-links=${picture.links.complete}
    >
      ${operands.map((name, index) => term(index ? signOf(picture, name) : "", figure(name)))}
      ${results.map((name, index) => term(index ? "" : "→", figure(name)))}
    </section>
    ${state.hide.includes("formula") || hidesAnswers ? nothing : formula(page)} ${toolbar(page, hidesAnswers)}`;
}

/** A figure with the sign before it, which stay together where a line ends. */
const term = (sign, figure) =>
  sign ? html`<div class="term"><span class="operator" aria-hidden="true">${sign}</span>${figure}</div>` : figure;

/** The sign before an operand, if it stands in a product or a sum. */
function signOf(picture, name) {
  const { view, operands } = picture;
  const isFactor = name === "weight" || (name === "input" && view.startsWith("grad_"));
  return !operands.weight ? "" : isFactor ? "∗" : name === "bias" ? "+" : "";
}

function tooLarge(picture, name) {
  const tensor = tensorOf(picture, name);
  const count = tensor.data.length / (tensor.shape.length > 1 && name !== "weight" ? Math.max(1, tensor.shape[0]) : 1);
  if (count <= MAX_CELLS) return null;
  return html`<figure class="tensor" data-name=${name}>
    <figcaption><b>${name}</b> <span class="shape">${tensor.shape.join(" × ")}</span></figcaption>
    <p class="too-large">${count} numbers: more than ${MAX_CELLS} are not drawn. The tab Table has them all.</p>
  </figure>`;
}

function formula(page) {
  const { picture, cell } = page;
  if (!cell || !page.formulaOf)
    return html`<p id="formula" class="hint">
      Point at a cell, or move to it with Tab and the arrow keys: it shows its sum. Enter pins it.
    </p>`;
  const { label, terms, value, note } = page.formulaOf(picture, cell);
  return html`<p id="formula" data-value=${full(value)}>
    <span class="label">${label}</span> = ${terms ? html`<span class="terms">${terms}</span> = ` : nothing}<strong
      >${short(value)}</strong
    >
    ${note ? html`<span class="note">${note}</span>` : nothing}
  </p>`;
}

function toolbar(page, hidesAnswers) {
  const { picture, state } = page;
  const items = picture.results.output.shape[0];
  return html`<div id="tools">
    ${
      items > 1
        ? html`<label
            >Item of the batch
            <input
              type="number"
              min="0"
              max=${items - 1}
              .value=${String(picture.item)}
              @input=${(event) => page.change({ item: Number(event.target.value) || 0 })}
            />
            (0 to ${items - 1})</label
          >`
        : nothing
    }
    ${state.hide.includes("answers") ? html`<button @click=${() => page.toggleAnswers()}>${hidesAnswers ? "Show" : "Hide"} the answers</button>` : nothing}
    <label class="paint"
      ><input type="checkbox" .checked=${page.isPainting} @change=${() => page.togglePaint()} /> Paint with</label
    >
    <input
      id="brush"
      type="number"
      step="any"
      aria-label="value to paint with"
      .value=${String(page.brush)}
      @input=${(event) => page.setBrush(event.target.value)}
    />
    <button id="random" @click=${() => page.randomize()}>Random numbers</button>
    <span class="hint">F2 or a double click changes a number.</span>
  </div>`;
}

function tabs(page) {
  const { state } = page;
  const shown = TABS.filter(([tab]) => !state.hide.includes(tab));
  return html`<section id="tabs">
    <div role="tablist" aria-label="More">
      ${shown.map(
        ([tab, title]) =>
          html`<button
            role="tab"
            data-tab=${tab}
            id="tab-${tab}"
            aria-selected=${state.tab === tab}
            aria-controls="panel"
            tabindex=${state.tab === tab || (!state.tab && tab === shown[0][0]) ? 0 : -1}
            @click=${() => page.change({ tab: state.tab === tab ? "" : tab })}
          >
            ${title}
          </button>`,
      )}
    </div>
    <div id="panel" role="tabpanel" aria-labelledby=${state.tab ? `tab-${state.tab}` : nothing} ?hidden=${!state.tab}>
      ${state.tab === "errors" ? errors(page) : state.tab ? panel(page, state.tab) : nothing}
    </div>
  </section>`;
}

/** The problem document as the service sent it. */
function errors({ problem }) {
  if (!problem) return html`<p class="hint">The service has nothing to object to.</p>`;
  return html`<pre tabindex="0">${JSON.stringify(problem.document, null, 2)}</pre>`;
}

const panel = (page, name) => page.features.template(name);

/** What the tabs and the view Compare show: modules of their own, each asked for when it is first needed. */
export class Features {
  #open = new Map(); // by name

  constructor(page) {
    this.page = page;
  }

  template(name) {
    if (!Object.hasOwn(FEATURES, name)) return ""; // a link may say anything
    if (!this.#open.has(name)) this.#load(name);
    return this.#open.get(name).template?.() ?? "";
  }

  async #load(name) {
    const placeholder = {};
    this.#open.set(name, placeholder);
    const loaded = await import(`./${name}.js`).catch(() => null);
    if (this.#open.get(name) !== placeholder) return; // it was closed before it had come
    const missing = { template: () => "The service did not send this part of the page. Open it again." };
    const feature = loaded ? new loaded[FEATURES[name]](contextOf(this.page)) : missing;
    this.#open.set(name, feature);
    feature.start?.();
    this.page.draw();
  }

  /** There is a new picture. */
  update() {
    for (const feature of this.#open.values()) feature.update?.();
  }

  /** Stop what is no longer shown. */
  close() {
    const { state } = this.page;
    for (const [name, feature] of [...this.#open]) {
      if (name === state?.tab || name === state?.view) continue;
      this.#open.delete(name);
      feature.stop?.();
    }
  }
}

/** What a feature sees of the page, always as it is now. */
const contextOf = (page) => ({
  service: page.service,
  get ops() {
    return page.ops;
  },
  get layer() {
    return page.layer;
  },
  get state() {
    return page.state;
  },
  get picture() {
    return page.picture;
  },
  change: (changes) => page.change(changes),
  redraw: () => page.draw(),
});
