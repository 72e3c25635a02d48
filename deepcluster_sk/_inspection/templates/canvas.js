
// ---- the map: where samples are, their colours, and how they are drawn

const nowhere = 65535;
const points = columns.x ? Uint32Array.from({ length: nSamples }, (_, i) => i)
  .filter((i) => columns.x[i] !== nowhere) : new Uint32Array(0);
const hasMap = byId("map-canvas") !== null && points.length > 0;

// the same order on every visit, but that of the data hides whatever comes first
function shuffle(numbers) {
  let seed = 1;
  for (let i = numbers.length - 1; i > 0; i -= 1) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
  }
}
shuffle(points);

// colours that eyes tell apart first, then ones around the wheel, in turn lighter and darker
const firstColours = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167],
  [86, 180, 233], [213, 94, 0], [148, 103, 189], [140, 86, 75]];
function fromHue(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const a = saturation * Math.min(lightness, 1 - lightness);
    return Math.round(255 * (lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}
function clusterColour(cluster) {
  if (cluster < 0) return [128, 128, 128];
  if (cluster < firstColours.length) {
    const lighter = isDark() ? 40 : 0;
    return firstColours[cluster].map((part) => Math.min(255, part + lighter));
  }
  const lightness = (isDark() ? [0.62, 0.75, 0.5] : [0.45, 0.6, 0.32])[cluster % 3];
  return fromHue((cluster * 137.508) % 360, 0.65, lightness);
}
// from uncertain to certain: orange to blue
const confidenceColour = (share) => [0, 1, 2].map((n) =>
  Math.round([230, 120, 0][n] + share * ([0, 95, 190][n] - [230, 120, 0][n])));
const cssColour = (colour) => `rgb(${colour.join(",")})`;
const cssVariable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function parsedColour(text) {
  const hex = text.slice(1).replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3");
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// what each sample is painted with: a number of a palette
const paints = {
  cluster: { of: (i) => columns.cluster[i] + 1, n: data.clusters + 1, colour: (n) => clusterColour(n - 1) },
  confidence: { of: (i) => columns.confidence[i] >> 10, n: 64, colour: (n) => confidenceColour(n / 63) },
  class: { of: (i) => columns.class[i], n: data.classes?.length, colour: clusterColour },
};
const paintOf = new Uint16Array(nSamples);
const isSelected = new Uint8Array(nSamples);
const broughtOut = new Set(); // clusters
let palette = [];
let background = [255, 255, 255];

function repaint(key) {
  const paint = paints[key];
  background = parsedColour(cssVariable("--field"));
  palette = Array.from({ length: paint.n }, (_, n) => paint.colour(n));
  for (let i = 0; i < nSamples; i += 1) paintOf[i] = paint.of(i);
}

// what is seen: a place of the map in the middle, and pixels per unit
const box = [Infinity, Infinity, -Infinity, -Infinity];
points.forEach((i) => {
  box[0] = Math.min(box[0], columns.x[i]);
  box[1] = Math.min(box[1], columns.y[i]);
  box[2] = Math.max(box[2], columns.x[i]);
  box[3] = Math.max(box[3], columns.y[i]);
});
const seen = { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2, zoom: 1, width: 1, height: 1 };
const scale = () => seen.zoom * 0.94 * Math.min(
  seen.width / Math.max(box[2] - box[0], 1), seen.height / Math.max(box[3] - box[1], 1));
const toScreen = (x, y) => [
  seen.width / 2 + (x - seen.x) * scale(), seen.height / 2 + (y - seen.y) * scale()];
const toMap = (x, y) => [
  seen.x + (x - seen.width / 2) / scale(), seen.y + (y - seen.height / 2) / scale()];
const pointRadius = () => Math.min(9, Math.min(5, Math.max(1.2, 0.3 * Math.sqrt(seen.width * seen.height / points.length))
  ** 0.8) * seen.zoom ** 0.35);

// a grid of cells, to find what is near a place: the points of cell c are members[starts[c]...]
const nCells = 256;
const cellOf = (i) => (columns.y[i] >> 8) * nCells + (columns.x[i] >> 8);
const starts = new Uint32Array(nCells * nCells + 1);
const members = new Uint32Array(points.length);
points.forEach((i) => { starts[cellOf(i) + 1] += 1; });
for (let cell = 0; cell < nCells * nCells; cell += 1) starts[cell + 1] += starts[cell];
{
  const next = starts.slice();
  points.forEach((i) => { members[next[cellOf(i)]++] = i; });
}
function nearest(screenX, screenY, within) {
  const [x, y] = toMap(screenX, screenY);
  const reach = within / scale();
  const cell = (value) => Math.min(Math.max(Math.floor(value / nCells), 0), nCells - 1);
  let best = -1;
  let bestSquare = reach * reach;
  for (let row = cell(y - reach); row <= cell(y + reach); row += 1) {
    const last = starts[row * nCells + cell(x + reach) + 1];
    for (let at = starts[row * nCells + cell(x - reach)]; at < last; at += 1) {
      const i = members[at];
      const square = (columns.x[i] - x) ** 2 + (columns.y[i] - y) ** 2;
      if (square < bestSquare) [best, bestSquare] = [i, square];
    }
  }
  return best;
}

// pixels of a disc: offsets from its middle, and how much of each is covered. Edges are soft where
// there are not so many that it takes too long
const softMost = 20000;
function disc(radius) {
  const reach = Math.ceil(radius + 0.5);
  const pixels = [];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const soft = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      const cover = points.length > softMost ? Math.round(soft) : soft;
      if (cover > 0) pixels.push([dx, dy, cover]);
    }
  }
  return { reach, pixels };
}

let canvas, context, image, words;
function fitCanvas() {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  seen.width = canvas.clientWidth || 1;
  seen.height = canvas.clientHeight || 1;
  seen.ratio = ratio;
  canvas.width = Math.round(seen.width * ratio);
  canvas.height = Math.round(seen.height * ratio);
  image = context.createImageData(canvas.width, canvas.height);
  words = new Uint32Array(image.data.buffer);
}
const word = ([red, green, blue]) => (255 << 24 | blue << 16 | green << 8 | red) >>> 0;

// draw the points for which `shown` is true; `strength` below one fades them
function drawPoints(shown, radius, strength) {
  const { width, height } = canvas;
  const { reach, pixels } = disc(radius);
  const offsets = Int32Array.from(pixels, ([dx, dy]) => dy * width + dx);
  const covers = Float32Array.from(pixels, ([, , cover]) => cover);
  const colours = palette.map((colour) => colour.map((part, n) =>
    background[n] + strength * (part - background[n])));
  const full = Uint32Array.from(colours, word);
  const red = Float32Array.from(colours, (colour) => colour[0]);
  const green = Float32Array.from(colours, (colour) => colour[1]);
  const blue = Float32Array.from(colours, (colour) => colour[2]);
  const factor = scale() * seen.ratio;
  const left = width / 2 - seen.x * factor;
  const top = height / 2 - seen.y * factor;
  const { x, y } = columns;
  for (let at = 0; at < points.length; at += 1) {
    const i = points[at];
    const px = Math.round(left + x[i] * factor);
    const py = Math.round(top + y[i] * factor);
    if (px < reach || py < reach || px >= width - reach || py >= height - reach || !shown(i)) continue;
    const middle = py * width + px;
    const paint = paintOf[i];
    for (let n = 0; n < offsets.length; n += 1) {
      const place = middle + offsets[n];
      const cover = covers[n];
      if (cover >= 1) {
        words[place] = full[paint];
        continue;
      }
      const old = words[place];
      const r = (old & 255) + cover * (red[paint] - (old & 255));
      const g = (old >> 8 & 255) + cover * (green[paint] - (old >> 8 & 255));
      const b = (old >> 16 & 255) + cover * (blue[paint] - (old >> 16 & 255));
      words[place] = 255 << 24 | b << 16 | g << 8 | r;
    }
  }
}

// where names are written: the medians of the members, the largest clusters first
const middles = [];
{
  const ofCluster = new Map();
  points.forEach((i) => {
    if (!ofCluster.has(columns.cluster[i])) ofCluster.set(columns.cluster[i], []);
    ofCluster.get(columns.cluster[i]).push(i);
  });
  ofCluster.forEach((rows, cluster) => {
    if (cluster < 0) return;
    const median = (values) => values.sort()[values.length >> 1];
    middles.push({ cluster, size: rows.length,
      x: median(Uint16Array.from(rows, (i) => columns.x[i])),
      y: median(Uint16Array.from(rows, (i) => columns.y[i])) });
  });
  middles.sort((a, b) => b.size - a.size);
}
function drawNames() {
  context.font = "600 13px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 4;
  context.strokeStyle = cssColour(background);
  context.fillStyle = cssVariable("--text");
  const taken = [];
  middles.forEach(({ cluster, x, y }) => {
    if (broughtOut.size && !broughtOut.has(cluster)) return;
    const [middle, sy] = toScreen(x, y);
    const name = clusterName(cluster);
    const text = name.length > 26 ? `${name.slice(0, 25)}…` : name;
    const half = context.measureText(text).width / 2 + 3;
    if (middle < -half || middle > seen.width + half || sy < 0 || sy > seen.height) return;
    const sx = Math.min(Math.max(middle, half), seen.width - half);
    if (taken.some(([tx, ty, th]) => Math.abs(tx - sx) < th + half && Math.abs(ty - sy) < 16)) return;
    taken.push([sx, sy, half]);
    context.strokeText(text, sx, sy);
    context.fillText(text, sx, sy);
  });
}
