// One explorer: choices, the picture with its map, what is said about them. No library, no request.
// The data are those of explorer.py: arrays with an axis for each choice, flattened; maps are 8-bit codes with a scale each.
const box = document.currentScript.parentElement;
const data = JSON.parse(box.querySelector('script[type="application/json"]').textContent);
const live = box.querySelector(".peftlab-live"), strip = box.querySelector(".peftlab-strip");

const choices = data.choices, named = Object.fromEntries(choices.map((choice) => [choice.name, choice]));
const pointing = choices.find((choice) => choice.cellsFrom !== null); // the choice that a patch of the picture makes
const at = Object.fromEntries(choices.map((choice) => [choice.name, choice.first])); // what is chosen
const maps = data.maps, parts = {};
let pointed = null, mapNumber = null; // the cell under the pointer; what gives a map by its number

// --- numbers ---

const stored = (by, where) => by.every((name) => where[name] < named[name].size);
const place = (by, where) => by.reduce((index, name) => index * named[name].size + where[name], 0);
const entry = (table, where) => (stored(table.by, where) ? table.values[place(table.by, where)] : null);
const derivation = (choice, index) => (index < choice.size ? null : choice.derived[index - choice.size][1]);
const derived = (where) => {
  const choice = maps.by.map((name) => named[name]).find((each) => derivation(each, where[each.name]));
  if (!choice) return null;
  const how = derivation(choice, where[choice.name]), at = (index) => ({ ...where, [choice.name]: index });
  return how === "mean" || how === "each"
    ? { signed: false, weights: range(choice.size).map(() => 1 / choice.size), wheres: range(choice.size).map(at) }
    : { signed: true, weights: [1, -1], wheres: how.map(at) };
};

// The map for what is chosen: one number a cell, or null where there is none.
function mapAt(where) {
  const from = derived(where);
  if (from) {
    const found = from.wheres.map(mapAt);
    if (found.includes(null)) return null;
    return found[0].map((_, cell) => sum(found.map((map, i) => from.weights[i] * map[cell])));
  }
  const map = mapNumber(place(maps.by, where));
  return Number.isNaN(map[0]) ? null : map;
}

const signedAt = (where) => {
  const from = derived(where);
  return maps.signed || (from !== null && (from.signed || signedAt(from.wheres[0])));
};

// The share of a map that lies within the outline, of its sum; of a difference, the difference of both shares.
function within(where) {
  const from = derived(where);
  if (from && from.signed) return within(from.wheres[0]) - within(from.wheres[1]);
  const map = mapAt(where), covered = data.covered[place(data.pictures.by, where)];
  return sum(map.map((value, cell) => (value * covered[cell]) / 1000)) / sum(map);
}

// --- words ---

const print = (value, form, signed = false) => {
  if (form === "text") return String(value);
  const sign = signed && value > 0 ? "+" : "", percent = `${(100 * value).toFixed(1)} ${signed ? "points" : "%"}`;
  return sign + (form === "percent" ? percent : String(Number(value.toPrecision(3))));
};
const cellName = (cell) => `row ${Math.floor(cell / maps.grid[1]) + 1}, column ${(cell % maps.grid[1]) + 1}`;
const labels = (choice) => {
  const values = choice.by ? choice.values[Math.min(at[choice.by], named[choice.by].size - 1)] : choice.values;
  return [...values, ...choice.derived.map(([label]) => label)];
};
const label = (choice, index) =>
  choice === pointing && index >= choice.cellsFrom && index < choice.size
    ? `patch in ${cellName(index - choice.cellsFrom)}`
    : String(labels(choice)[index]);

// The choice whose values all stand side by side, if one does: what is said is then of their mean.
const abreast = (where) => choices.find((choice) => derivation(choice, where[choice.name]) === "each");

// [what, value] for what is chosen.
function facts(where, map) {
  const found = data.facts.map((fact) => [fact, entry(fact, where)]).filter(([, value]) => value !== null);
  const lines = found.map(([fact, value]) => [fact.label, print(value, fact.form)]);
  if (!map) return maps ? [...lines, ["", data.missing]] : lines;
  const signed = signedAt(where), show = (value) => print(value, maps.form, signed);
  const many = abreast(where), mean = many ? ", mean" : "";
  if (data.whole) lines.push([data.whole + mean, show(sum(map))]);
  if (data.covered) lines.push([data.inside + mean, print(within(where), "percent", signed)]);
  if (many) return lines;
  const size = map.map(Math.abs), most = size.indexOf(Math.max(...size));
  if (data.whole || signed) lines.push([signed ? "largest" : "most", `${show(map[most])} in ${cellName(most)}`]);
  if (pointed !== null && !pointing) lines.push(["here", `${show(map[pointed])} in ${cellName(pointed)}`]);
  return lines;
}

// --- nodes ---

function choose(choice, index) {
  at[choice.name] = index;
  if (choice === pointing) pointed = null; // what keys pointed at would hide it
  for (const other of choices) if (other.by === choice.name) at[other.name] = Math.min(at[other.name], other.size - 1);
  draw();
}

// A control has its node and a function that shows what is chosen.
function control(choice) {
  const { name } = choice, count = choice.size + choice.derived.length;
  if (choice.kind === "slider") {
    const input = make("input", { type: "range", min: 0, max: count - 1, "aria-label": name });
    const output = make("output");
    input.addEventListener("input", () => choose(choice, Number(input.value)));
    const update = () => {
      input.value = at[name];
      output.textContent = label(choice, at[name]);
      input.setAttribute("aria-valuetext", `${name} ${output.textContent}`);
    };
    return { node: make("label", { class: "control" }, make("span", {}, name), input, output), update };
  }
  if (choice.kind === "list") {
    const select = make("select", { "aria-label": name });
    select.addEventListener("change", () => choose(choice, Number(select.value)));
    const update = () => {
      select.replaceChildren(...range(count).map((i) => make("option", { value: i }, label(choice, i))));
      select.value = at[name];
    };
    return { node: make("label", { class: "control" }, make("span", {}, name), select), update };
  }
  const offered = range(count).filter((i) => choice !== pointing || i < choice.cellsFrom || i >= choice.size);
  const inputs = offered.map((i) => make("input", { type: "radio", name, value: i, onchange: () => choose(choice, i) }));
  const texts = offered.map(() => make("span"));
  const buttons = inputs.map((input, i) => make("label", { class: choice.kind }, input, texts[i]));
  const hint = choice === pointing ? [make("span", { class: "hint" }, "or point at a patch")] : [];
  const node = make("fieldset", { class: "control" }, make("legend", {}, name), ...buttons, ...hint);
  const update = () =>
    offered.forEach((i, k) => {
      inputs[k].checked = at[name] === i;
      texts[k].textContent = label(choice, i);
    });
  return { node, update };
}

function stage() {
  const picture = make("img"), canvas = make("canvas", { "aria-hidden": "true" });
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  lines.setAttribute("viewBox", "0 0 100 100");
  lines.setAttribute("preserveAspectRatio", "none");
  lines.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  const cell = make("div", { class: "cell", hidden: "" }), caption = make("figcaption");
  const frame = make("div", { class: "frame" }, picture, canvas, lines, cell);
  return { node: make("figure", {}, frame, caption), frame, picture, canvas, lines, cell, caption };
}

function build(root) {
  const controls = choices.map(control);
  const view = make("div", { class: maps ? "view" : "view drawn" });
  if (maps) {
    const does = pointing ? "Arrow keys choose a patch, Escape goes back." : "Arrow keys read off the map.";
    for (const [name, value] of Object.entries({ tabindex: 0, role: "application", "aria-label": `${data.title}. ${does}` }))
      view.setAttribute(name, value);
    view.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(cellUnder(event)));
    view.addEventListener("pointerleave", () => point(null));
    view.addEventListener("pointerdown", (event) => pin(cellUnder(event)));
    view.addEventListener("keydown", key);
  }
  Object.assign(parts, { controls, view, says: make("p", { class: "says" }), facts: make("dl"), scale: make("div", { class: "scale" }) });
  parts.chart = make("div", { class: "chart", role: "group" });
  parts.status = make("div", { class: "status", role: "status", "aria-live": "polite" });
  const side = make("div", { class: "side" }, parts.scale, parts.says, parts.facts, parts.chart);
  const words = controls.filter((_, i) => choices[i].kind === "words").map((each) => each.node);
  const others = controls.filter((_, i) => choices[i].kind !== "words").map((each) => each.node);
  const body = make("div", { class: "body" }, view, side);
  const section = make("section", { "aria-label": data.title }, make("div", { class: "controls" }, ...others), ...words, body);
  root.append(make("style", {}, live.dataset.css), section, parts.status);
}

// --- pointing ---

function cellUnder(event) {
  const frame = event.target.closest(".frame");
  return frame && cellAt(event, frame, maps.grid);
}

function point(cell) {
  if (cell === pointed) return;
  pointed = cell;
  draw();
}

function pin(cell) {
  if (cell === null) return;
  pointed = cell;
  if (pointing) at[pointing.name] = pointing.cellsFrom + cell;
  draw();
}

function key(event) {
  const [rows, columns] = maps.grid;
  if (event.key === "Escape") {
    pointed = null;
    if (pointing) at[pointing.name] = pointing.first;
    draw();
  } else if (event.key in ARROWS) {
    const chosen = pointing && at[pointing.name] < pointing.size ? at[pointing.name] - pointing.cellsFrom : -1;
    const from = pointed ?? (chosen >= 0 ? chosen : null);
    pin(from === null ? (rows >> 1) * columns + (columns >> 1) : cellBeside(from, event.key, maps.grid));
  } else return;
  event.preventDefault();
}

// --- drawing ---

function paint(canvas, map, top, signed) {
  const [rows, columns] = maps.grid, table = signed ? data.colors.signed : data.colors.heat;
  canvas.width = columns;
  canvas.height = rows;
  canvas.classList.toggle("coarse", rows < 8); // smoothed, few cells would show shapes that nobody computed
  const pixels = new ImageData(columns, rows);
  (map || []).forEach((value, cell) => {
    const share = Math.max(-1, Math.min(1, value / top)), color = Math.round(255 * (signed ? (share + 1) / 2 : share));
    pixels.data.set(table.subarray(3 * color, 3 * color + 3), 4 * cell);
    pixels.data[4 * cell + 3] = signed ? 255 * Math.abs(share) ** 0.5 : 255;
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// What stands side by side: one place for each value of a choice that shows all of its values.
function places(where) {
  const all = abreast(where);
  return all ? range(all.size).map((i) => [label(all, i), { ...where, [all.name]: i }]) : [["", where]];
}

function drawMarks({ cell, lines, picture }, where) {
  const index = data.pictures.by.length ? place(data.pictures.by, where) : 0, [src, alt] = data.pictures.items[index];
  if (picture.getAttribute("src") !== src) picture.setAttribute("src", src);
  picture.alt = alt;
  lines.firstChild.setAttribute("d", data.outlines[index] || "");
  if (!maps) return;
  const chosen = pointing ? where[pointing.name] - pointing.cellsFrom : pointed;
  const [rows, columns] = maps.grid, marked = chosen !== null && chosen >= 0 && chosen < rows * columns;
  cell.hidden = !marked;
  if (marked)
    Object.assign(cell.style, {
      left: `${(100 * (chosen % columns)) / columns}%`,
      top: `${(100 * Math.floor(chosen / columns)) / rows}%`,
      width: `${100 / columns}%`,
      height: `${100 / rows}%`,
    });
}

function drawScale(top, signed) {
  const low = signed ? -top : 0, table = signed ? data.colors.signed : data.colors.heat;
  const stops = range(9).map((i) => `rgb(${table.subarray(3 * Math.round(i * 31.875), 3 * Math.round(i * 31.875) + 3)})`);
  const bar = make("span", { class: "bar", style: `background: linear-gradient(90deg, ${stops})` });
  parts.scale.replaceChildren(print(low, maps.form, signed), bar, `${print(top, maps.form, signed)} ${maps.unit}`);
}

function drawChart(where) {
  const { by, form, label: title, values } = data.chart, along = named[by.at(-1)];
  const at = (i) => ({ ...where, [along.name]: i });
  const all = stored(by.slice(0, -1), where) ? range(along.size).map((i) => [i, values[place(by, at(i))]]) : [];
  const shown = all.filter(([, value]) => value !== null);
  const top = form === "percent" ? 1 : Math.max(...shown.map(([, value]) => value));
  parts.chart.setAttribute("aria-label", title);
  const bars = shown.map(([i, value]) =>
    make(
      "button",
      {
        type: "button",
        "aria-label": `${along.name} ${label(along, i)}: ${print(value, form)}`,
        "aria-current": where[along.name] === i ? "true" : null,
        title: `${along.name} ${label(along, i)}: ${print(value, form)}`,
        onclick: () => choose(along, i),
      },
      make("span", { style: `height: ${(100 * value) / top}%` }),
      make("small", {}, label(along, i)),
    ),
  );
  parts.chart.replaceChildren(...(bars.length ? [make("p", {}, title), make("div", { class: "bars" }, ...bars)] : []));
}

function draw() {
  const where = { ...at };
  if (pointing && pointed !== null) where[pointing.name] = pointing.cellsFrom + pointed;
  parts.controls.forEach((each) => each.update());
  const shown = places(where);
  if (shown.length !== (parts.stages || []).length) {
    parts.stages = shown.map(stage);
    parts.view.replaceChildren(...parts.stages.map((each) => each.node));
    parts.view.classList.toggle("many", shown.length > 1);
  }
  let map = null;
  if (maps) {
    const found = shown.map(([, each]) => mapAt(each)), signed = signedAt(where);
    const top = Math.max(1e-9, ...found.flatMap((each) => (each || []).map(Math.abs)));
    parts.stages.forEach((each, i) => {
      each.frame.classList.toggle("signed", signed);
      paint(each.canvas, found[i], top, signed);
    });
    drawScale(top, signed);
    map = mapAt(where);
  }
  parts.stages.forEach((each, i) => {
    drawMarks(each, shown[i][1]);
    each.caption.textContent = shown[i][0];
  });
  parts.says.textContent = `${choices.map((choice) => `${choice.name}: ${label(choice, where[choice.name])}`).join(" · ")}`;
  parts.facts.replaceChildren(...facts(where, map).flatMap(([what, value]) => [make("dt", {}, what), make("dd", {}, value)]));
  if (data.chart) drawChart(where);
  clearTimeout(parts.timer); // a screen reader hears where the pointer rests, not what it crosses
  parts.timer = setTimeout(() => (parts.status.textContent = `${parts.says.textContent}. ${parts.facts.innerText}`), 400);
}

async function start() {
  if (maps) {
    mapNumber = await unpacked(maps);
    for (const name of ["heat", "signed"]) data.colors[name] = bytes(data.colors[name]);
  }
  build(live.attachShadow({ mode: "open" }));
  draw();
  strip.hidden = true; // it stays for paper, and where this script does not run
}
start();
