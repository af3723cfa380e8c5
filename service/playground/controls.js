/**
 * The forms at the side: a control for each parameter of a layer and for the size of each operand, made of GET /ops.
 *
 * What is typed is not judged here: it goes to the service, and what the service finds wrong stands at the control.
 */
import { sizeOf } from "./service.js";
import {
  alternatives,
  applies,
  axesLabel,
  axesOf,
  defaultOf,
  effective,
  isNumeric,
  MOST_VALUES,
  parameterText,
  parameterValue,
  parsedShape,
  resolvedText,
  spatialCount,
  spatialRange,
  stepped,
  wordsOf,
} from "./state.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Finding} Finding */

/** Parameters that are asked for often, in their order, and those that stand below "more"; others come before both. */
const OFTEN = (
  "mode kernel_size stride padding padding_mode dilation groups ceil_mode output_padding output_size ties " +
  "count_include_pad norm_type"
).split(" ");
const SELDOM = "framework data_format algorithm index_scheme storage_order return_indices divisor_override".split(" ");
const FLOATS = ["float64", "float32"];

/**
 * The field that is being edited: its text, the values (as text) that the state has had meanwhile by it, and for a size
 * the tensors when that began. The state follows what is typed a moment later, and must not overwrite it then.
 */
let editing = { name: "", values: new Set() };

function edited(name, text, value) {
  const { values, ...others } = editing.name === name ? editing : { values: new Set() };
  editing = { ...others, name, text, values: values.add(value) };
}

const endEditing = () => (editing = { name: "", values: new Set() });
addEventListener("hashchange", endEditing); // a link, or Back: what was typed before it is no longer meant

/** What a field shows: what is typed in it, unless the state has got its value from elsewhere. */
const textOf = (name, value, text) => (editing.name === name && editing.values.has(value) ? editing.text : text);

// Problems

/** The name of the parameter or the operand that a finding is about. */
function nameOf({ pointer = "" }) {
  const [, first, second] = pointer.split("/");
  return first === "shapes" ? second : first;
}

/**
 * Findings that no control of the two forms shows.
 *
 * @param {Finding[]} problems
 * @param {object} operation  the layer's forward, as GET /ops has it
 */
export function unplaced(problems, operation) {
  const names = new Set([
    ...Object.keys(operation.parameters.properties),
    ...operation.operands.map(({ name }) => name),
  ]);
  return problems.filter((finding) => !names.has(nameOf(finding)));
}

// A control with its label, help and problems

const helpOf = (id) => `help-${id}`;
const problemOf = (id) => `problem-${id}`;

/** @param {MouseEvent} event  of the button beside a label */
function toggleHelp({ currentTarget }) {
  const help = document.getElementById(currentTarget.getAttribute("aria-controls"));
  help.hidden = !help.hidden;
  currentTarget.setAttribute("aria-expanded", String(!help.hidden));
}

function question(id, name) {
  return html`<button
    type="button"
    class="ask"
    aria-label="What is ${name}?"
    aria-expanded="false"
    aria-controls=${helpOf(id)}
    @click=${toggleHelp}
  >
    ?
  </button>`;
}

/** A control in its frame; `control` is given what ties it to help and problems. */
function field({ id, name, label = name, help, findings, note = "", control }) {
  const described = [help && helpOf(id), findings.length && problemOf(id)].filter(Boolean).join(" ");
  const ties = { id, described: described || nothing, invalid: findings.length > 0, problem: problemOf(id) };
  return html`<div class="field ${findings.length ? "wrong" : ""}">
    <div class="head">
      <label for=${id}>${label}</label>
      ${help ? question(id, name) : nothing}
    </div>
    ${control(ties)} ${help ? html`<p class="help" id=${helpOf(id)} hidden>${help}</p>` : nothing}
    ${note ? html`<p class="resolved">${note}</p>` : nothing}
    <div id=${problemOf(id)}>
      ${findings.map(({ pointer, message }) => html`<p class="problem" data-pointer=${pointer}>${message}</p>`)}
    </div>
  </div>`;
}

function select({ name, options, value, onChoose, ties }) {
  return html`<select
    id=${ties.id}
    name=${name}
    aria-invalid=${ties.invalid}
    aria-errormessage=${ties.invalid ? ties.problem : nothing}
    aria-describedby=${ties.described}
    @change=${(event) => onChoose(event.target.value)}
  >
    ${options.map(([text, shown]) => html`<option value=${text} .selected=${text === value}>${shown}</option>`)}
  </select>`;
}

function textInput({ ties, name, value, placeholder, list = nothing, mode = "text", isDisabled = false, on }) {
  return html`<input
    type="text"
    id=${ties.id}
    name=${name}
    .value=${value}
    placeholder=${placeholder}
    list=${list}
    inputmode=${mode}
    autocomplete="off"
    autocapitalize="off"
    spellcheck="false"
    ?disabled=${isDisabled}
    aria-invalid=${ties.invalid}
    aria-errormessage=${ties.invalid ? ties.problem : nothing}
    aria-describedby=${ties.described}
    @input=${on.input}
    @keydown=${on.keydown}
    @change=${on.change}
    @blur=${on.blur}
  />`;
}

// Parameters

function choice(context, name, schema) {
  const { operation, state, set, isRequired } = context;
  const given = state.parameters[name];
  const values = name === "framework" ? Object.keys(operation.framework_defaults) : wordsOf(schema);
  const texts = values.map((value) => parameterText(value));
  const text = given === undefined || given === null ? "" : parameterText(given);
  if (text && !texts.includes(text)) texts.push(text);
  const options = texts.map((one) => [one, one]);
  if (!isRequired) options.unshift(["", defaultOf(operation, state.parameters, name).label]);
  else if (!text) options.unshift(["", "choose…"]);
  const onChoose = (chosen) => set(name, chosen === "" ? undefined : parameterValue(chosen));
  return (ties) => select({ name, options, value: text, onChoose, ties });
}

function checkbox(context, name) {
  const { operation, state, set } = context;
  const { value: byDefault } = defaultOf(operation, state.parameters, name);
  const isChecked = effective(operation, state.parameters, name) === true;
  return (ties) =>
    html`<span class="check">
      <input
        type="checkbox"
        id=${ties.id}
        name=${name}
        .checked=${isChecked}
        aria-invalid=${ties.invalid}
        aria-errormessage=${ties.invalid ? ties.problem : nothing}
        aria-describedby=${ties.described}
        @change=${({ target }) => set(name, target.checked === byDefault ? undefined : target.checked)}
      />
      <span aria-hidden="true">${isChecked ? "yes" : "no"}</span>
    </span>`;
}

function textField(context, name, schema) {
  const { operation, state, set } = context;
  const numeric = alternatives(schema).find(isNumeric);
  const words = wordsOf(schema);
  const next = (by) => numeric && stepped(operation, state.parameters, context.resolved, name, numeric, by);
  const given = state.parameters[name];
  const onInput = ({ target }) => {
    const text = target.value.trim();
    const value = text === "" ? undefined : parameterValue(text);
    edited(name, target.value, JSON.stringify(value));
    set(name, value);
  };
  const step = (by) => {
    endEditing();
    set(name, next(by));
  };
  const onKey = (event) => {
    const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!by || words.length || next(by) === undefined) return;
    event.preventDefault();
    step(by);
  };
  const button = (by, sign, verb) =>
    html`<button
      type="button"
      class="step"
      tabindex="-1"
      aria-label="${verb} ${name}"
      ?disabled=${next(by) === undefined}
      @click=${() => step(by)}
    >
      ${sign}
    </button>`;
  const option = (word) => html`<option value=${word}></option>`;
  return (ties) =>
    html`<span class="stepped">
      ${numeric ? button(-1, "−", "decrease") : nothing}
      ${textInput({
        ties,
        name,
        value: textOf(name, JSON.stringify(given), given === undefined ? "" : parameterText(given)),
        placeholder: defaultOf(operation, state.parameters, name).text,
        list: words.length ? `words-${name}` : nothing,
        mode: alternatives(schema).length === 1 && numeric?.minimum >= 0 ? "decimal" : "text",
        on: { input: onInput, keydown: onKey, blur: endEditing },
      })}
      ${numeric ? button(1, "+", "increase") : nothing}
      ${words.length ? html`<datalist id="words-${name}">${words.map(option)}</datalist>` : nothing}
    </span>`;
}

function parameterField(context, name) {
  const { operation, state, problems, resolved, resolvedOf } = context;
  const schema = operation.parameters.properties[name] ?? {};
  const findings = problems.filter((finding) => nameOf(finding) === name);
  const isRequired = (operation.parameters.required ?? []).includes(name);
  const isAsked = JSON.stringify(resolvedOf?.[name]) !== JSON.stringify(state.parameters[name]);
  const kinds = alternatives(schema);
  const make =
    kinds.length === 1 && kinds[0].enum ? choice : kinds.every(({ type }) => type === "boolean") ? checkbox : textField;
  return field({
    id: `parameter-${name}`,
    name,
    help: schema.description,
    findings,
    note: findings.length || isAsked ? "" : resolvedText(operation, state.parameters, resolved, name),
    control: make({ ...context, isRequired }, name, schema),
  });
}

/**
 * The form of a layer's parameters.
 *
 * @param {object} options
 * @param {object} options.operation  the layer's forward, as GET /ops has it
 * @param {object} options.state
 * @param {Finding[]} options.problems  of the service's answer to the state
 * @param {Record<string, unknown>} [options.resolved]  the parameters as POST /{layer}/shape completes them
 * @param {Record<string, unknown>} [options.resolvedOf]  the parameters of the state that `resolved` answers
 * @param {(change: (state: object) => object) => void} options.onChange  takes what makes changes of the state as it is
 */
export function parameterForm({ operation, state, problems, resolved, resolvedOf, onChange }) {
  const { properties } = operation.parameters;
  const set = (name, value) =>
    onChange(({ parameters: { [name]: _, ...others } }) => ({
      parameters: value === undefined ? others : { ...others, [name]: value },
    }));
  const context = { operation, state, problems, resolved, resolvedOf, set };
  const isShown = (name) => name in state.parameters || applies(operation, properties[name], state.parameters);
  const known = Object.keys(properties).filter((name) => name !== "spatial_axes"); // among the sizes
  const foreign = Object.keys(state.parameters).filter((name) => !(name in properties)); // to be removed
  const among = (names) => names.filter((name) => known.includes(name));
  const other = known.filter((name) => !OFTEN.includes(name) && !SELDOM.includes(name));
  const fields = (names) => names.map((name) => (isShown(name) ? parameterField(context, name) : nothing));
  const seldom = among(SELDOM);
  const isOpen = seldom.some((name) => name in state.parameters || problems.some((one) => nameOf(one) === name));
  const more = html`<details class="more" ?open=${isOpen}>
    <summary>More</summary>
    ${fields(seldom)}
  </details>`;
  return html`<form
    id="parameters"
    autocomplete="off"
    aria-label="Parameters"
    @submit=${(event) => event.preventDefault()}
  >
    ${fields(foreign)} ${fields(other)} ${fields(among(OFTEN))} ${seldom.length ? more : nothing}
  </form>`;
}

// Sizes

function sizeField({ operation, state, problems, onChange }, operand) {
  const { name, required, description } = operand;
  const tensor = state.tensors[name];
  const id = `size:${name}`;
  const axes = axesOf(operation, operand, state.parameters);
  const setPresent = ({ target: { checked } }) =>
    onChange(({ tensors: { [name]: _, ...others } }) => ({ tensors: checked ? { ...others, [name]: null } : others }));
  const shown = tensor?.shape.join("x") ?? "";
  const onInput = ({ target }, isDone = false) => {
    // Each size that is typed starts from what was there before: 5, 51 and 5 again leave the values as they were.
    const tensors = (editing.name === id && editing.tensors) || state.tensors;
    edited(id, target.value, shown);
    editing.tensors = tensors;
    const shape = parsedShape(target.value);
    const fits = shape && sizeOf(shape) <= MOST_VALUES && (shape.length > 0 || !(axes?.length > 1));
    target.setCustomValidity(fits ? "" : `sizes with x between them, as ${shown}, of at most ${MOST_VALUES} values`);
    if (isDone) target.reportValidity();
    if (!fits || (shape.length !== tensor.shape.length && !isDone)) return; // of another rank: not before it is whole
    editing.values.add(shape.join("x"));
    onChange(() => ({ tensors, sizes: { [name]: shape } }));
  };
  const onBlur = ({ target }) => {
    endEditing();
    if (!target.validity.valid) target.value = shown;
    target.setCustomValidity("");
  };
  const presence = html`<input
    type="checkbox"
    name="has:${name}"
    aria-label="with ${name}"
    .checked=${Boolean(tensor)}
    @change=${setPresent}
  />`;
  return field({
    id,
    label: html`${name} <span class="axes">${axesLabel(axes, tensor?.shape)}</span>`,
    name,
    help: description,
    findings: problems.filter((finding) => nameOf(finding) === name),
    control: (ties) =>
      html`<span class="stepped">
        ${required ? nothing : presence}
        ${textInput({
          ties,
          name: id,
          value: textOf(id, shown, shown),
          placeholder: tensor ? "one value" : "none",
          isDisabled: !tensor,
          on: { input: onInput, change: (event) => onInput(event, true), blur: onBlur },
        })}
      </span>`,
  });
}

/** A select with a field around it. */
function chosen({ name, help, choices, value, findings = [], onChoose }) {
  const options = (choices.includes(value) ? choices : [value, ...choices]).map((one) => [one, one]);
  const control = (ties) => select({ name, options, value, onChoose, ties });
  return field({ id: `choice-${name}`, name, help, findings, control });
}

function spatialAxes({ operation, state, problems, onChange }) {
  const name = "spatial_axes";
  const [least, most] = spatialRange(operation);
  const counts = operation.operands.map((operand) =>
    spatialCount(state.tensors[operand.name]?.shape, axesOf(operation, operand, state.parameters)),
  );
  return chosen({
    name,
    help: operation.parameters.properties[name].description,
    choices: Array.from({ length: most - least + 1 }, (_, index) => String(least + index)),
    value: String(counts.find((one) => one !== undefined) ?? state.parameters[name] ?? ""),
    findings: problems.filter((finding) => nameOf(finding) === name),
    onChoose: (text) => onChange(({ parameters }) => ({ parameters: { ...parameters, [name]: Number(text) } })),
  });
}

/**
 * The form of the operands: their sizes, which of them there are, and their dtype.
 *
 * @param {object} options  as of `parameterForm`
 */
export function sizesForm(options) {
  const { operation, state, onChange } = options;
  const [first] = operation.operands;
  const takesFloats = state.tensors[first.name] && FLOATS.every((one) => first.dtypes.includes(one));
  const dtype = {
    name: "dtype",
    help: "The type of the numbers that the service computes with.",
    choices: FLOATS,
    value: state.tensors[first.name]?.dtype,
    onChoose: (chosen) => onChange({ dtype: chosen }),
  };
  return html`<form id="sizes" autocomplete="off" aria-label="Sizes" @submit=${(event) => event.preventDefault()}>
    <h2>Sizes</h2>
    ${operation.operands.map((operand) => sizeField(options, operand))}
    ${operation.parameters.properties.spatial_axes ? spatialAxes(options) : nothing}
    ${takesFloats ? chosen(dtype) : nothing}
  </form>`;
}
