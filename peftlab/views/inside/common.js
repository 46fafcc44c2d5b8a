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
