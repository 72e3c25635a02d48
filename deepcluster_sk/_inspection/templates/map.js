
// ---- the map: moving around, pointing, and selecting on it

let asked = false; // for a new drawing
let stale = true; // whether the points have to be drawn again, not only what lies above them
let pointed = -1; // the sample under the mouse, or the one that the keys have reached
let outline = []; // of the lasso, in pixels
let lassoMode = false;
const drawTimes = []; // milliseconds of the last drawings

function redraw(points = true) {
  stale ||= points;
  if (asked || !hasMap) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}
function draw() {
  const begin = performance.now();
  if (stale) paintPoints();
  stale = false;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.putImageData(image, 0, 0);
  context.setTransform(seen.ratio, 0, 0, seen.ratio, 0, 0);
  drawNames();
  if (pointed >= 0) drawRing(pointed);
  if (outline.length) drawOutline();
  drawTimes.push(performance.now() - begin);
  if (drawTimes.length > 200) drawTimes.shift();
}
function paintPoints() {
  words.fill(word(background));
  const radius = pointRadius() * seen.ratio;
  const selecting = selection.length > 0;
  if (!selecting && !broughtOut.size) {
    drawPoints(() => true, radius, 1);
  } else {
    const isOut = (i) => (selecting ? isSelected[i] === 1 : broughtOut.has(columns.cluster[i]));
    drawPoints((i) => !isOut(i), radius, 0.28);
    drawPoints(isOut, radius * 1.15, 1);
  }
}
function drawRing(i) {
  context.beginPath();
  context.arc(...toScreen(columns.x[i], columns.y[i]), pointRadius() + 4, 0, 2 * Math.PI);
  context.lineWidth = 2;
  context.strokeStyle = cssVariable("--text");
  context.stroke();
}
function drawOutline() {
  context.beginPath();
  outline.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
  context.lineWidth = 1.5;
  context.setLineDash([5, 4]);
  context.strokeStyle = cssVariable("--text");
  context.stroke();
  context.setLineDash([]);
}

function clampView() {
  seen.zoom = Math.min(Math.max(seen.zoom, 1), 400);
  seen.x = Math.min(Math.max(seen.x, box[0]), box[2]);
  seen.y = Math.min(Math.max(seen.y, box[1]), box[3]);
  if (seen.zoom === 1) [seen.x, seen.y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  // what is seen as a whole cannot be moved: a finger moves the page
  canvas.style.touchAction = seen.zoom > 1 || lassoMode ? "none" : "pan-y";
}
// zoom so that what is at a place of the screen stays there
function zoomAt(factor, x = seen.width / 2, y = seen.height / 2) {
  const before = toMap(x, y);
  seen.zoom = Math.min(Math.max(seen.zoom * factor, 1), 400);
  const after = toMap(x, y);
  seen.x += before[0] - after[0];
  seen.y += before[1] - after[1];
  clampView();
  redraw();
}
function moveBy(dx, dy) {
  seen.x -= dx / scale();
  seen.y -= dy / scale();
  clampView();
  redraw();
}
function showAll() {
  seen.zoom = 1;
  clampView();
  redraw();
}

function point(i, x, y) {
  if (i !== pointed) {
    pointed = i;
    redraw(false);
  }
  const tip = byId("map-tip");
  tip.hidden = i < 0;
  if (i < 0) return;
  if (tip.dataset.sample !== String(i)) {
    tip.dataset.sample = i;
    tip.replaceChildren(...(hasPicture(i) ? [tile(i)] : []), element("div", {},
      element("b", { textContent: nameOf(i) }), ...sampleFacts(i).map((fact) => element("span", { textContent: fact }))));
  }
  tip.style.left = `${Math.max(0, Math.min(x + 14, seen.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 14 + tip.offsetHeight < seen.height ? y + 14 : Math.max(0, y - tip.offsetHeight - 14)}px`;
}
function pointByKeys(i) {
  let [x, y] = toScreen(columns.x[i], columns.y[i]);
  if (x < 20 || y < 20 || x > seen.width - 20 || y > seen.height - 20) {
    moveBy(seen.width / 2 - x, seen.height / 2 - y);
    [x, y] = toScreen(columns.x[i], columns.y[i]);
  }
  point(i, x, y);
  byId("map-live").textContent = [nameOf(i), ...sampleFacts(i)].join(", ");
}
// the nearest sample in a direction, rather straight ahead than aside
function neighbour(from, dx, dy) {
  let best = -1;
  let least = Infinity;
  points.forEach((i) => {
    const ahead = dx * (columns.x[i] - columns.x[from]) + dy * (columns.y[i] - columns.y[from]);
    if (ahead <= 0) return;
    const aside = Math.abs(dy * (columns.x[i] - columns.x[from]) + dx * (columns.y[i] - columns.y[from]));
    if (ahead + 2 * aside < least) [best, least] = [i, ahead + 2 * aside];
  });
  return best;
}
function enlarge(i) {
  if (hasPicture(i)) view(i, isSelected[i] ? selection : [i]);
}

const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const arrow = arrows[event.key];
  if (arrow && event.shiftKey) moveBy(-60 * arrow[0], -60 * arrow[1]);
  else if (arrow) {
    const next = pointed < 0 ? nearest(seen.width / 2, seen.height / 2, Infinity) : neighbour(pointed, ...arrow);
    if (next >= 0) pointByKeys(next);
  } else if (event.key === "+" || event.key === "=") zoomAt(1.5);
  else if (event.key === "-") zoomAt(1 / 1.5);
  else if (event.key === "0") showAll();
  else if (event.key === " " && pointed >= 0) toggle(pointed);
  else if (event.key === "Enter" && pointed >= 0) enlarge(pointed);
  else if (event.key === "Escape") { select([]); point(-1); } else return;
  event.preventDefault();
}

// pointers that are down: one drags or draws the lasso, two zoom
const down = new Map();
let dragged = 0;
let adding = false;
const placeOf = (event) => {
  const frame = canvas.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top];
};
function pointerDown(event) {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  down.set(event.pointerId, placeOf(event));
  adding = event.ctrlKey || event.metaKey;
  if (down.size > 1) outline = [];
  else {
    dragged = 0;
    if (event.shiftKey || lassoMode) outline = [placeOf(event)];
  }
}
function pointerMove(event) {
  const place = placeOf(event);
  const before = down.get(event.pointerId);
  if (!before) {
    if (event.pointerType === "mouse") point(nearest(...place, pointRadius() + 6), ...place);
    return;
  }
  const [dx, dy] = [place[0] - before[0], place[1] - before[1]];
  dragged += Math.hypot(dx, dy);
  if (down.size === 2) {
    const other = [...down].find(([id]) => id !== event.pointerId)[1];
    const distance = (one) => Math.max(Math.hypot(one[0] - other[0], one[1] - other[1]), 10);
    zoomAt(distance(place) / distance(before), (place[0] + other[0]) / 2, (place[1] + other[1]) / 2);
    moveBy(dx / 2, dy / 2);
  } else if (outline.length) {
    outline.push(place);
    redraw(false);
  } else if (dragged > 4) {
    point(-1);
    moveBy(dx, dy);
  }
  down.set(event.pointerId, place);
}
function pointerUp(event) {
  if (!down.delete(event.pointerId)) return;
  const place = placeOf(event);
  if (outline.length > 2 && dragged > 4) select(inside(outline), adding);
  else if (dragged <= 4 && event.type === "pointerup") {
    const i = nearest(...place, pointRadius() + (event.pointerType === "mouse" ? 6 : 14));
    if (i < 0) select([]);
    else if (adding) toggle(i);
    else { select([i]); enlarge(i); }
  }
  outline = [];
  redraw(false);
}
// samples inside of an outline, by how often a ray to the left crosses it
function inside(polygon) {
  const corners = polygon.map(([x, y]) => toMap(x, y));
  const [left, right] = [Math.min(...corners.map(([x]) => x)), Math.max(...corners.map(([x]) => x))];
  const [top, bottom] = [Math.min(...corners.map(([, y]) => y)), Math.max(...corners.map(([, y]) => y))];
  return Array.from(points.filter((i) => {
    const [x, y] = [columns.x[i], columns.y[i]];
    if (x < left || x > right || y < top || y > bottom) return false;
    let odd = false;
    for (let a = 0, b = corners.length - 1; a < corners.length; b = a, a += 1) {
      const [ax, ay] = corners[a];
      const [bx, by] = corners[b];
      if ((ay > y) !== (by > y) && x > (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  })).sort((a, b) => a - b);
}

function startMap() {
  canvas = byId("map-canvas");
  context = canvas.getContext("2d");
  const colourBy = byId("colour-by");
  if (columns.class) colourBy.add(new Option("class", "class"));
  const recolour = () => { repaint(colourBy.value); showLegend(); redraw(); };
  colourBy.addEventListener("change", recolour);
  document.addEventListener("theme", recolour);
  document.addEventListener("names", () => { showLegend(); showSelection(); redraw(); });
  canvas.addEventListener("pointerdown", pointerDown);
  canvas.addEventListener("pointermove", pointerMove);
  canvas.addEventListener("pointerup", pointerUp);
  canvas.addEventListener("pointercancel", pointerUp);
  canvas.addEventListener("pointerleave", (event) => { if (!down.has(event.pointerId)) point(-1); });
  canvas.addEventListener("keydown", pressed);
  canvas.addEventListener("blur", () => point(-1));
  canvas.addEventListener("wheel", (event) => {
    if (event.deltaY > 0 && seen.zoom === 1) return; // the page scrolls on
    event.preventDefault();
    point(-1);
    zoomAt(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) / 400), ...placeOf(event));
  }, { passive: false });
  document.addEventListener("times", ({ detail }) => { detail.times = drawTimes.splice(0); });
  document.addEventListener("locate", ({ detail }) => { // asks where a sample is
    [detail.x, detail.y] = toScreen(columns.x[detail.sample], columns.y[detail.sample]);
  });
  byId("zoom-in").addEventListener("click", () => zoomAt(1.5));
  byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.5));
  byId("zoom-all").addEventListener("click", showAll);
  byId("lasso").addEventListener("click", (event) => {
    lassoMode = !lassoMode;
    event.target.setAttribute("aria-pressed", lassoMode);
    canvas.classList.toggle("drawing", lassoMode);
    clampView();
  });
  // a new size empties the canvas: drawn before the next frame, it does not flicker
  new ResizeObserver(() => { fitCanvas(); stale = true; draw(); }).observe(canvas);
  fitCanvas();
  clampView();
  byId("map-count").textContent = `${points.length.toLocaleString("en")} samples`;
  recolour();
}
