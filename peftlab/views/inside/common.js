// What the pieces of this folder share: numbers as a page carries them (packing.py), and nodes.

const range = (count) => [...Array(count).keys()];
const sum = (values) => values.reduce((total, value) => total + value, 0);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const inflate = (text) =>
  new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// 8-bit maps, each with a scale: a function from the number of a map to its values.
async function unpacked(maps) {
  const [scales, codes] = await Promise.all([inflate(maps.scales), inflate(maps.codes)]);
  const scale = new Float32Array(scales), code = new Int8Array(codes), cells = maps.grid[0] * maps.grid[1];
  return (index) => Array.from(code.subarray(index * cells, (index + 1) * cells), (each) => (each / 127) * scale[index]);
}

// The cell of a grid [rows, columns] under a pointer, and the one that an arrow key leads to from a cell.
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const clip = (index, count) => Math.min(count - 1, Math.max(0, index));

function cellAt(event, frame, [rows, columns]) {
  const { left, top, width, height } = frame.getBoundingClientRect();
  const index = (share, count) => clip(Math.floor(share * count), count);
  return index((event.clientY - top) / height, rows) * columns + index((event.clientX - left) / width, columns);
}

function cellBeside(cell, key, [rows, columns]) {
  const [down, right] = ARROWS[key];
  return clip(Math.floor(cell / columns) + down, rows) * columns + clip((cell % columns) + right, columns);
}
