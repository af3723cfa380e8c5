/**
 * The form of a layer's parameters, made of GET /ops, and what its controls have in common with those of the sizes.
 *
 * What is typed is not judged here: it goes to the service, and what the service finds wrong stands at the control.
 */
import { effective, parameterText, parameterValue } from "./state.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Finding} Finding */

/** Parameters that are asked for often, in their order, and those that stand below "more"; others come before both. */
const OFTEN = [
  "mode",
  "kernel_size",
  "stride",
  "padding",
  "padding_mode",
  "dilation",
  "groups",
  "ceil_mode",
  "output_padding",
  "output_size",
  "ties",
  "count_include_pad",
  "norm_type",
];
const SELDOM = [
  "framework",
  "data_format",
  "algorithm",
  "index_scheme",
  "storage_order",
  "return_indices",
  "divisor_override",
];

/** The text of the field that is being edited, and the value that it stands for. */
let typing = { name: "" };

// Problems

/** The name of the parameter or the operand that a finding is about. */
export function nameOf({ pointer = "" }) {
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

/** A control in its frame; `control` is given what ties it to help and problems. */
export function field({ id, label, about, help, findings, note = "", control }) {
  const described = [help && helpOf(id), findings.length && problemOf(id)].filter(Boolean).join(" ");
  const ties = { id, described: described || nothing, invalid: findings.length > 0, problem: problemOf(id) };
  return html`<div class="field ${findings.length ? "wrong" : ""}">
    <div class="head">
      <label for=${id}>${label}</label>
      ${
        help
          ? html`<button
              type="button"
              class="ask"
              aria-label="What is ${about}?"
              aria-expanded="false"
              aria-controls=${helpOf(id)}
              @click=${toggleHelp}
            >
              ?
            </button>`
          : nothing
      }
    </div>
    ${control(ties)} ${help ? html`<p class="help" id=${helpOf(id)} hidden>${help}</p>` : nothing}
    ${note ? html`<p class="resolved">${note}</p>` : nothing}
    <div id=${problemOf(id)}>
      ${findings.map(({ pointer, message }) => html`<p class="problem" data-pointer=${pointer}>${message}</p>`)}
    </div>
  </div>`;
}

export function select({ name, options, value, onChoose, ties }) {
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

// Parameters

/** The alternatives of a schema, without null. */
const alternatives = (schema) =>
  (schema.anyOf ?? schema.oneOf ?? [schema])
    .flatMap((one) => (one === schema ? [one] : alternatives(one)))
    .filter(({ type }) => type !== "null");

const isNumeric = ({ type }) => type === "integer" || type === "number";

/** Whether a parameter is one of the layer as its selector is set. */
function applies(operation, schema, parameters) {
  return Object.entries(schema["x-only-with"] ?? {}).every(([selector, values]) =>
    values.includes(effective(operation, parameters, selector)),
  );
}

/** The parameters after one is set, or left out if it is undefined, without those that do not apply any more. */
function withParameter(operation, parameters, name, value) {
  const { [name]: _, ...others } = parameters;
  const all = value === undefined ? others : { ...others, [name]: value };
  const { properties } = operation.parameters;
  const kept = Object.entries(all).filter(([key]) => {
    const applied = applies(operation, properties[key] ?? {}, parameters);
    return key === name || !applied || applies(operation, properties[key] ?? {}, all);
  });
  return Object.fromEntries(kept);
}

/** "2,2" of [2, 2]: whether a list repeats one value, and so says no more than it. */
function repeats(list, value) {
  return Array.isArray(list)
    ? list.every((entry, index) => repeats(entry, Array.isArray(value) ? value[index] : value))
    : Object.is(list, value);
}

/** What the service made of a parameter, where that is not what stands in the control. */
function resolvedNote(context, name) {
  const { operation, state, resolved, isWrong } = context;
  const made = resolved?.[name];
  const asked = effective(operation, state.parameters, name);
  if (isWrong || made === undefined || made === null || repeats(made, asked)) return "";
  return `${asked === undefined || asked === null ? name : `${name} ${parameterText(asked)}`} → ${parameterText(made)}`;
}

/** "default (zeros)", or whose it is. */
function defaultLabel(operation, parameters, name) {
  const value = effective(operation, { framework: parameters.framework }, name);
  const isOfFramework = value !== effective(operation, {}, name);
  const text = value === undefined || value === null ? "none" : parameterText(value);
  return `${isOfFramework ? `${parameters.framework}'s ` : ""}default (${text})`;
}

function choice(context, name, schema) {
  const { operation, state, set, isRequired } = context;
  const given = state.parameters[name];
  const values = name === "framework" ? Object.keys(operation.framework_defaults) : wordsOf(schema);
  const texts = values.map((value) => parameterText(value));
  const text = given === undefined || given === null ? "" : parameterText(given);
  if (text && !texts.includes(text)) texts.push(text);
  const options = texts.map((one) => [one, one]);
  if (!isRequired || !text)
    options.unshift(["", isRequired ? "choose…" : defaultLabel(operation, state.parameters, name)]);
  const onChoose = (chosen) => set(name, chosen === "" ? undefined : parameterValue(chosen));
  return (ties) => select({ name, options, value: text, onChoose, ties });
}

function checkbox(context, name) {
  const { operation, state, set } = context;
  const byDefault = effective(operation, { framework: state.parameters.framework }, name);
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

const wordsOf = (schema) => alternatives(schema).flatMap((one) => one.enum ?? []);

/** The number that a step starts from, or undefined where the value is not one number. */
function steppedFrom(context, name, { minimum = 0 }) {
  const { operation, state, resolved } = context;
  const given = state.parameters[name];
  if (given !== undefined && given !== null) return Number.isFinite(given) ? given : undefined;
  const value = effective(operation, state.parameters, name) ?? resolved?.[name];
  const [first] = [value].flat(Infinity);
  if (Number.isFinite(first) && repeats(value, first)) return first;
  return value === undefined || value === null ? minimum - 1 : undefined;
}

function textField(context, name, schema) {
  const { operation, state, set } = context;
  const numeric = alternatives(schema).find(isNumeric);
  const words = wordsOf(schema);
  const from = numeric && steppedFrom(context, name, numeric);
  const stepped = (step) => {
    const next = from + step;
    return numeric.not?.enum?.includes(next) ? next + step : next;
  };
  const { minimum = -Infinity, maximum = Infinity } = numeric ?? {};
  const canStep = (step) => from !== undefined && stepped(step) >= minimum && stepped(step) <= maximum;
  const step = (by) => canStep(by) && set(name, stepped(by));
  const given = state.parameters[name];
  const isTyped = typing.name === name && Object.is(JSON.stringify(typing.value), JSON.stringify(given));
  const onInput = ({ target }) => {
    const text = target.value.trim();
    typing = { name, text: target.value, value: text === "" ? undefined : parameterValue(text) };
    set(name, typing.value);
  };
  const onKey = (event) => {
    const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!by || words.length || !canStep(by)) return;
    event.preventDefault();
    step(by);
  };
  const byDefault = effective(operation, { framework: state.parameters.framework }, name);
  const button = (by, sign, verb) =>
    html`<button
      type="button"
      class="step"
      tabindex="-1"
      aria-label="${verb} ${name}"
      ?disabled=${!canStep(by)}
      @click=${() => step(by)}
    >
      ${sign}
    </button>`;
  return (ties) =>
    html`<span class="stepped">
      ${numeric ? button(-1, "−", "decrease") : nothing}
      <input
        type="text"
        id=${ties.id}
        name=${name}
        .value=${isTyped ? typing.text : given === undefined ? "" : parameterText(given)}
        placeholder=${byDefault === undefined || byDefault === null ? "" : parameterText(byDefault)}
        list=${words.length ? `words-${name}` : nothing}
        inputmode=${alternatives(schema).length === 1 && numeric?.minimum >= 0 ? "decimal" : "text"}
        autocomplete="off"
        autocapitalize="off"
        spellcheck="false"
        ?required=${context.isRequired}
        aria-invalid=${ties.invalid}
        aria-errormessage=${ties.invalid ? ties.problem : nothing}
        aria-describedby=${ties.described}
        @input=${onInput}
        @keydown=${onKey}
        @blur=${() => (typing = { name: "" })}
      />
      ${numeric ? button(1, "+", "increase") : nothing}
      ${
        words.length
          ? html`<datalist id="words-${name}">${words.map((word) => html`<option value=${word}></option>`)}</datalist>`
          : nothing
      }
    </span>`;
}

function parameterField(context, name) {
  const schema = context.operation.parameters.properties[name] ?? {};
  const findings = context.problems.filter((finding) => nameOf(finding) === name);
  const isRequired = (context.operation.parameters.required ?? []).includes(name);
  const inner = { ...context, isRequired, isWrong: findings.length > 0 };
  const kinds = alternatives(schema);
  const make =
    kinds.length === 1 && kinds[0].enum ? choice : kinds.every(({ type }) => type === "boolean") ? checkbox : textField;
  return field({
    id: `parameter-${name}`,
    label: name,
    about: name,
    help: schema.description,
    findings,
    note: resolvedNote(inner, name),
    control: make(inner, name, schema),
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
 * @param {(change: (state: object) => object) => void} options.onChange  takes what makes changes of the state as it is
 */
export function parameterForm({ operation, state, problems, resolved, onChange }) {
  const { properties } = operation.parameters;
  const set = (name, value) =>
    onChange(({ parameters }) => ({ parameters: withParameter(operation, parameters, name, value) }));
  const context = { operation, state, problems, resolved, set };
  const isShown = (name) => name in state.parameters || applies(operation, properties[name], state.parameters);
  const known = Object.keys(properties).filter((name) => name !== "spatial_axes"); // among the sizes
  const foreign = Object.keys(state.parameters).filter((name) => !(name in properties)); // to be removed
  const among = (names) => names.filter((name) => known.includes(name));
  const other = known.filter((name) => !OFTEN.includes(name) && !SELDOM.includes(name));
  const fields = (names) => names.map((name) => (isShown(name) ? parameterField(context, name) : nothing));
  const seldom = among(SELDOM);
  const isOpen = seldom.some((name) => name in state.parameters || problems.some((one) => nameOf(one) === name));
  return html`<form
    id="parameters"
    autocomplete="off"
    aria-label="Parameters"
    @submit=${(event) => event.preventDefault()}
  >
    ${fields(foreign)} ${fields(other)} ${fields(among(OFTEN))}
    ${
      seldom.length
        ? html`<details class="more" ?open=${isOpen}>
            <summary>More</summary>
            ${fields(seldom)}
          </details>`
        : nothing
    }
  </form>`;
}
