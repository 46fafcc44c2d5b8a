// The walk: one screen a step, one patch through all of them. The data are those of guided_walk.py; common.js stands before.

const box = document.currentScript.parentElement;
const data = JSON.parse(box.querySelector('script[type="application/json"]').textContent);
const live = box.querySelector(".peftlab-live"), strip = box.querySelector(".peftlab-strip");

const { steps, models, prefix, photograph } = data, [frozen, tuned] = models;
const [rows, columns] = data.grid, [height, width] = photograph.size, [tall, wide] = [height / rows, width / columns];
const tokens = prefix.length + rows * columns;
const at = { step: 0, patch: data.patch, other: -1, block: data.block, method: 1 }; // other: CLS or a register, or -1
const parts = {};
let read = {}; // arrays and maps, once they are inflated

// --- numbers and words ---

const number = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "\u2212");
const percent = (value, signed) => (signed && value > 0 ? "+" : "") + number(100 * value, 1) + (signed ? " points" : " %");
const largest = (values) => Math.max(1e-9, ...values.map(Math.abs));
const place = (patch) => `row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
const nameOf = (token) => (token < prefix.length ? prefix[token] : `patch in ${place(token - prefix.length)}`);
const chosen = () => (at.other < 0 ? prefix.length + at.patch : at.other);
const corner = () => [Math.floor(at.patch / columns) * tall, (at.patch % columns) * wide];
const pixel = (y, x) => read.pixels.subarray(3 * (y * width + x), 3 * (y * width + x) + 3);
const inBlock = (model) => (model * data.blocks + at.block) * tokens + chosen(); // the place in [models, blocks, tokens]
const three = [frozen, tuned, `${tuned} less ${frozen}`], less = ([a, b]) => [a, b, b.map((value, i) => value - a[i])];
const of = (array, index, size) => Array.from(array.subarray(index * size, (index + 1) * size)); // the index-th vector
const line = (what, values, digits) => [what, ...values.map((value) => number(value, digits)), "…"];
const followed = () => ["tokens", "qkv", "attention", "residual"].includes(steps[at.step].name); // steps of one token

// --- pictures ---

function color(value, top, signed) {
  const share = Math.max(-1, Math.min(1, value / top)), index = Math.round(255 * (signed ? (share + 1) / 2 : share));
  return Array.from((signed ? read.signed : read.heat).subarray(3 * index, 3 * index + 3));
}

function canvas(across, down, colorAt, kind) {
  const node = make("canvas", { width: across, height: down, class: kind, "aria-hidden": "true" });
  const pixels = new ImageData(across, down);
  for (const i of range(across * down)) pixels.data.set([...colorAt(Math.floor(i / across), i % across), 255], 4 * i);
  node.getContext("2d").putImageData(pixels, 0, 0);
  return node;
}

const heat = (values, across, top, kind) =>
  canvas(across, values.length / across, (y, x) => color(values[y * across + x], top, true), kind);

function framed(picture) {
  const [top, left] = corner(), style = { top: top / height, left: left / width, width: wide / width, height: tall / height };
  const cell = make("div", { class: "cell" });
  for (const [key, share] of Object.entries(style)) cell.style[key] = `${100 * share}%`;
  return make("div", { class: "photo" }, picture, ...(at.other < 0 || !followed() ? [cell] : []));
}

// The photograph in grey, numbers of its patches in colours on it.
function over(map, top, signed) {
  return canvas(width, height, (y, x) => {
    const value = map[Math.floor(y / tall) * columns + Math.floor(x / wide)], grey = sum([...pixel(y, x)]) / 3;
    const share = Math.min(1, Math.abs(value) / top) ** 0.5;
    return color(value, top, signed).map((c) =>
      signed ? c * share + 0.75 * grey * (1 - share) : 255 - ((255 - 0.4 * grey) * (255 - c)) / 255,
    );
  });
}

const cells = (tag, scope, texts) => texts.map((each) => make(tag, { scope }, each));
const table = (lines, heads = []) =>
  make("table", {},
    ...(heads.length ? [make("tr", {}, ...cells("th", "col", heads))] : []),
    ...lines.map(([what, ...values]) => make("tr", {}, ...cells("th", "row", [what]), ...cells("td", null, values))),
  );
const note = (says) => make("p", { class: "note" }, says.replace(/\s+/g, " "));
const bars = (lines, top) =>
  make("div", { class: "lines" }, ...lines.flatMap(([what, value, says]) => [
    make("span", {}, what),
    make("span", { class: "track", "aria-hidden": "true" }, make("i", { style: `width: ${(100 * value) / top}%` })),
    make("b", {}, says),
  ]));
const beside = (show) =>
  make("div", { class: "beside" }, ...models.map((name, i) => make("div", {}, make("h4", {}, name), ...show(i))));
const figure = (picture, says) => make("figure", {}, picture, make("figcaption", {}, says));

// --- the steps: what stands below the heading of each ---

const draw = {
  photograph() {
    const [top, left] = corner(), show = (what, y, x) => [what, ...pixel(top + y, left + x)];
    const lines = [show("first pixel", 0, 0), show("middle pixel", tall >> 1, wide >> 1), show("last pixel", tall - 1, wide - 1)];
    const patch = canvas(wide, tall, (y, x) => pixel(top + y, left + x), "large");
    const says = note(`The ${nameOf(prefix.length + at.patch)}, enlarged. Both models read the same numbers. ${photograph.says}`);
    return [make("div", { class: "row" }, patch, table(lines, ["", "red", "green", "blue"])), says];
  },

  patches() {
    const [top, left] = corner(), [mean, std] = data.normalisation, cell = [tall + 2, wide + 2];
    const cut = canvas(columns * cell[1] - 2, rows * cell[0] - 2, (y, x) => {
      const [inY, inX, row, column] = [y % cell[0], x % cell[1], Math.floor(y / cell[0]), Math.floor(x / cell[1])];
      if (inY >= tall || inX >= wide) return [255, 255, 255];
      const pale = row * columns + column === at.patch ? 0 : 0.5; // the chosen one stands out
      return [...pixel(row * tall + inY, column * wide + inX)].map((value) => value * (1 - pale) + 255 * pale);
    }, "large");
    const values = range(3).map((channel) => range(tall * wide).map((i) =>
      (pixel(top + Math.floor(i / wide), left + (i % wide))[channel] / 255 - mean[channel]) / std[channel]));
    const lines = ["red", "green", "blue"].map((name, i) => line(name, values[i].slice(0, data.first)));
    const says = note(`All ${3 * tall * wide} numbers of the ${nameOf(prefix.length + at.patch)}, those of its red parts above
      green above blue. Positive numbers are drawn in red, negative ones in blue.`);
    const strip = heat(values.flat(), tall * wide, largest(values.flat()), "strip");
    return [make("div", { class: "row" }, cut, table(lines)), strip, says];
  },

  tokens() {
    const embedded = (model, part) => of(read.embedded, (model * 3 + part) * tokens + chosen(), data.first);
    const all = models.map((_, model) => range(tokens).flatMap((token) => read.tokens(model * tokens + token)));
    const top = largest(all[0]) / 3; // few numbers are far larger than the rest
    const same = all[0].every((value, i) => value === all[1][i]);
    const verdict = same ? "changes nothing yet: both models have the same tokens here" : "has other tokens from the start";
    const says = note(`Marked: ${nameOf(chosen())}. A row is a token; red numbers are positive, blue ones negative.
      ${tuned} ${verdict}.`);
    const what = at.other < 0 ? "matrix x patch" : "learned vector";
    return [beside((model) => {
      const marked = make("div", { class: "marked", style: `top: ${(100 * chosen()) / tokens}%; height: ${100 / tokens}%` });
      const lines = [what, "+ place", "= token"].map((each, part) => line(each, embedded(model, part), 3));
      return [make("div", { class: "photo" }, heat(all[model], all[model].length / tokens, top, "matrix"), marked), table(lines)];
    }), says];
  },

  qkv() {
    const maps = models.map((_, model) => range(3).map((i) => read.qkv(inBlock(model) * 3 + i)));
    const tops = range(3).map((i) => largest(maps.flatMap((each) => each[i]))), shown = maps[0][0].length / data.heads;
    const moved = range(3).map((i) => percent(read.moved[(at.block * tokens + chosen()) * 3 + i]));
    const says = note(`A row is a head. ${tuned} moved the query of the ${nameOf(chosen())} by ${moved[0]} of its length,
      the key by ${moved[1]}, the value by ${moved[2]}.`);
    return [beside((model) => {
      const lines = ["query", "key", "value"].map((name, i) => line(name, of(read.vectors, inBlock(model) * 3 + i, data.first)));
      const pictures = lines.map(([name], i) => figure(heat(maps[model][i], shown, tops[i]), name));
      return [make("div", { class: "three" }, ...pictures), table(lines)];
    }), says];
  },

  attention() {
    const maps = less(models.map((_, model) => read.attention(inBlock(model))));
    const given = less(models.map((_, model) => of(read.given, inBlock(model), prefix.length))); // to CLS and registers
    const top = largest(maps.slice(0, 2).flat());
    const most = maps.map((map) => map.map(Math.abs).indexOf(largest(map)));
    const found = models.map((name, i) => `${name}: most, ${percent(maps[i][most[i]])}, at the patch in ${place(most[i])}`);
    const pictures = maps.map((map, i) => figure(framed(over(map, i < 2 ? top : largest(map), i === 2)), three[i]));
    return [
      make("div", { class: "three" }, ...pictures),
      table([
        ["largest", ...maps.map((map, i) => percent(map[most[i]], i === 2))],
        ["at row, column", ...most.map((patch) => place(patch).replace(/[a-z]+ /g, ""))],
        ["to CLS", ...given.map(([first], i) => percent(first, i === 2))],
        ["to registers", ...given.map(([, ...others], i) => percent(sum(others), i === 2))],
        ["to patches", ...given.map((all, i) => percent((i < 2 ? 1 : 0) - sum(all), i === 2))],
      ], ["", ...three]),
      note(`Looking: ${nameOf(chosen())}. ${found.join("; ")}.`),
    ];
  },

  residual() {
    const vector = (model, part) => of(read.stream, inBlock(model) * 4 + part, data.first + 1); // its length stands first
    const names = ["token before", "+ attention", "+ MLP", "= token after"];
    const all = models.map((_, model) => names.map((_, part) => vector(model, part)));
    const top = largest(all.flat().map(([length]) => length));
    const found = models.map((name, i) => `${name}: attention adds a vector ${percent(all[i][1][0] / all[i][0][0])} as long`);
    return [beside((model) => [
      bars(all[model].map(([length], part) => [names[part], length, number(length, 1)]), top),
      table(all[model].map(([, ...values], part) => line(names[part], values))),
    ]), note(`The ${nameOf(chosen())}. ${found.join("; ")}.`)];
  },

  cls() {
    const all = less(range(2).map((model) => of(read.features, model, read.features.length / 2))), { alike } = data;
    const top = largest(all.slice(0, 2).flat());
    const names = alike.map((_, i) => (i < data.blocks ? `block ${i + 1}` : "LayerNorm"));
    const falls = alike.map((value, i) => (i ? alike[i - 1] : 1) - value), most = falls.indexOf(Math.max(...falls));
    const says = note(`1 would be the same direction. It falls most at ${names[most]}, by ${number(falls[most], 3)}; what both
      heads read has a cosine of ${number(alike.at(-1), 3)}.`);
    const lines = alike.map((value, i) => [names[i], Math.max(0, value), number(value, 3)]);
    return [
      ...all.flatMap((values, i) => [make("h4", {}, three[i]), heat(values, values.length, top, "strip")]),
      table(all.map((values, i) => line(three[i], values.slice(0, data.first)))),
      make("h4", {}, `Cosine between the CLS tokens of ${frozen} and ${tuned}, after each block`),
      bars(lines, 1),
      says,
    ];
  },

  answer() {
    const says = models.map((name, i) => `${name}: ${data.answers[i][0][0]}, ${percent(data.answers[i][0][1])}`).join("; ");
    const lines = (model) => data.answers[model].map(([name, share]) => [name, share, percent(share)]);
    const trained = `The heads of both were trained; the blocks of ${frozen} were not.`;
    return [beside((model) => [bars(lines(model), 1)]), note(`${says}. ${trained}`)];
  },

  method() {
    const method = data.methods[at.method], links = method.steps.map((name) => steps.findIndex((step) => step.name === name));
    const radio = (i) => ({ type: "radio", name: "method", value: i, checked: i === at.method ? "" : null });
    const choose = (i) => make("label", { class: "buttons" },
      make("input", { ...radio(i), onchange: () => set({ method: i }) }), make("span", {}, data.methods[i].name));
    const buttons = make("fieldset", { class: "control" }, make("legend", {}, "method"), ...range(data.methods.length).map(choose));
    const link = (i) => make("button", { class: "link", onclick: () => set({ step: i }) }, `step ${i + 1}, ${steps[i].heading}`);
    const where = make("p", {}, "Acts at ", ...links.flatMap((i, k) => [...(k ? [" and "] : []), link(i)]));
    const merges = method.notMergeable ? `does not merge: ${method.notMergeable}` : "merges into plain weights";
    const says = note(`${method.name}: ${method.idea}. ${method.parameters.toLocaleString("en")} trained parameters without the
      head; ${merges}.`);
    const alt = `A block with ${method.name}: ${method.idea}`, src = `data:image/svg+xml,${encodeURIComponent(method.picture)}`;
    const picture = make("img", { class: "block", src, alt });
    return [buttons, make("div", { class: "scroll" }, picture), where, says];
  },
};

// --- nodes, keys, pointing ---

const inside = ["qkv", "attention", "residual"]; // the steps in a block

function build(root) {
  const jump = (step, i) => make("li", {}, make("button", { onclick: () => set({ step: i }) }, `${i + 1} ${step.short}`));
  const looks = { class: "view", tabindex: 0, role: "application", "aria-label": "Arrow keys choose a patch of the photograph" };
  const blocks = { type: "range", min: 0, max: data.blocks - 1, "aria-label": "block" };
  parts.list = make("ol", {}, ...steps.map(jump));
  parts.view = make("div", { ...looks, onpointerdown: point, onkeydown: move });
  parts.block = make("input", { ...blocks, oninput: () => set({ block: Number(parts.block.value) }) });
  parts.number = make("output");
  parts.slider = make("label", { class: "control" }, make("span", {}, "block"), parts.block, parts.number);
  parts.other = make("select", { "aria-label": "token to follow", onchange: () => set({ other: Number(parts.other.value) }) });
  parts.token = make("label", { class: "control" }, make("span", {}, "token"), parts.other);
  parts.other.append(...range(prefix.length + 1).map((i) => make("option", { value: i - 1 }, i ? prefix[i - 1] : "the patch")));
  parts.panel = make("div", { class: "panel", tabindex: 0, role: "group", "aria-label": "step" });
  parts.back = make("button", { onclick: () => go(-1) }, "← Back");
  parts.next = make("button", { onclick: () => go(1) }, "Next →");
  parts.status = make("div", { class: "status", role: "status", "aria-live": "polite" });
  const hint = make("p", { class: "hint" }, "Point at a patch");
  const side = make("div", { class: "chooser" }, parts.view, hint, parts.token, parts.slider);
  const section = make("section", { "aria-label": data.title, onkeydown: turn },
    make("nav", { "aria-label": "steps" }, parts.list), make("div", { class: "body" }, side, parts.panel),
    make("div", { class: "turn" }, parts.back, parts.next));
  root.append(make("style", {}, live.dataset.css), section, parts.status);
}

const go = (by) => set({ step: Math.min(steps.length - 1, Math.max(0, at.step + by)) });

function turn(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target.matches("input, select, .view")) return; // there, arrow keys have a meaning of their own
  go(by);
  event.preventDefault();
  event.stopPropagation();
}

function point(event) {
  set({ patch: cellAt(event, parts.view, data.grid), other: -1 });
}

function move(event) {
  if (!(event.key in ARROWS)) return;
  set({ patch: cellBeside(at.patch, event.key, data.grid), other: -1 });
  event.preventDefault();
  event.stopPropagation();
}

function set(change) {
  Object.assign(at, change);
  const step = steps[at.step], text = `Step ${at.step + 1} of ${steps.length}: ${step.heading}`;
  [...parts.list.children].forEach((item, i) => {
    item.firstChild.setAttribute("aria-current", i === at.step ? "step" : "false");
    item.classList.toggle("acts", step.name === "method" && data.methods[at.method].steps.includes(steps[i].name));
  });
  parts.back.setAttribute("aria-disabled", at.step === 0);
  parts.next.setAttribute("aria-disabled", at.step === steps.length - 1);
  parts.slider.hidden = !inside.includes(step.name);
  parts.token.hidden = !followed();
  parts.block.value = at.block;
  parts.number.textContent = at.block + 1;
  parts.other.value = at.other;
  parts.view.replaceChildren(framed(canvas(width, height, pixel)));
  const focused = parts.panel.contains(live.shadowRoot.activeElement) && live.shadowRoot.activeElement.value; // a method
  const shape = step.shape ? [make("p", { class: "shape" }, step.shape)] : [];
  parts.panel.replaceChildren(make("h3", {}, text), make("p", {}, step.says), ...shape, ...draw[step.name]());
  if (focused) parts.panel.querySelector(`input[value="${focused}"]`)?.focus();
  clearTimeout(parts.timer); // a screen reader hears where one rests
  const hear = () => (parts.status.textContent = `${text}. ${step.shape} ${parts.panel.querySelector(".note").textContent}`);
  parts.timer = setTimeout(hear, 400);
}

async function start() {
  const floats = async (text) => new Float32Array(await inflate(text));
  read = { heat: bytes(data.colors.heat), signed: bytes(data.colors.signed) };
  read.pixels = new Uint8Array(await inflate(photograph.codes));
  for (const name of ["embedded", "moved", "vectors", "stream", "given", "features"]) read[name] = await floats(data[name]);
  for (const name of ["tokens", "qkv", "attention"]) read[name] = await unpacked(data[name]);
  data.methods = JSON.parse(new TextDecoder().decode(await inflate(data.methods)));
  build(live.attachShadow({ mode: "open" }));
  set({});
  strip.hidden = true; // it stays for paper, and where this script does not run
}
start();
