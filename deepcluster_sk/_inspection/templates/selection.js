
// ---- the selection: a list below the map, and files of it

const listedMost = 120;
let selection = [];

function select(samples, add = false) {
  if (!add) isSelected.fill(0);
  samples.forEach((i) => { isSelected[i] = 1; });
  selection = [];
  for (let i = 0; i < nSamples; i += 1) if (isSelected[i]) selection.push(i);
  showSelection();
  redraw();
}
function toggle(i) {
  if (isSelected[i]) select(selection.filter((other) => other !== i));
  else select([i], true);
}
function showSelection() {
  const n = selection.length;
  const more = n > listedMost ? `, the first ${listedMost} are shown; the files have all` : "";
  byId("selection-count").textContent = `${n.toLocaleString("en")} ${n === 1 ? "sample" : "samples"}${more}`;
  ["selection-copy", "selection-csv", "selection-json", "selection-clear"].forEach((id) => { byId(id).disabled = n === 0; });
  byId("selection-said").textContent = "";
  const list = byId("selection-list");
  list.replaceChildren(...selection.slice(0, listedMost).map((i) => {
    const name = nameOf(i);
    return element("li", {}, ...(hasPicture(i) ? [pictureButton(i)] : []),
      element("span", { className: "name", title: name, textContent: name.slice(name.lastIndexOf("/") + 1) }),
      element("span", { className: "soft", textContent: `${clusterName(columns.cluster[i], true)} · ${percent(confidenceOf(i))}` }));
  }));
  oneTabStop(list);
}
function selectedRecords() {
  return selection.map((i) => ({
    row: rowOf(i),
    sample: nameOf(i),
    cluster: columns.cluster[i],
    cluster_name: names.get(columns.cluster[i]) || "",
    confidence: Number(confidenceOf(i).toFixed(4)),
    ...(columns.class ? { class: classOf(i) } : {}),
  }));
}
// browsers may deny the first way to frames and files
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { value: text, readOnly: true, className: "unseen" });
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
    return done;
  }
}

function showLegend() {
  const byCluster = byId("colour-by").value === "cluster";
  const sizes = new Map(middles.map(({ cluster, size }) => [cluster, size]));
  const focused = document.activeElement?.dataset?.legend;
  byId("legend").replaceChildren(...[...sizes.keys()].sort((a, b) => a - b).map((cluster) => {
    const swatch = element("i", { className: "swatch" });
    if (byCluster) swatch.style.background = cssColour(clusterColour(cluster));
    const button = element("button", { type: "button" }, swatch,
      element("span", { className: "name", textContent: clusterName(cluster, true) }),
      element("span", { className: "soft", textContent: sizes.get(cluster).toLocaleString("en") }));
    button.dataset.legend = cluster;
    button.setAttribute("aria-pressed", broughtOut.has(cluster));
    return element("li", {}, button);
  }));
  byId("select-clusters").disabled = broughtOut.size === 0;
  if (focused !== undefined) byId("legend").querySelector(`[data-legend="${focused}"]`)?.focus();
}

if (hasMap) {
  byId("legend").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const cluster = Number(button.dataset.legend);
    if (!broughtOut.delete(cluster)) broughtOut.add(cluster);
    button.setAttribute("aria-pressed", broughtOut.has(cluster));
    byId("select-clusters").disabled = broughtOut.size === 0;
    redraw();
  });
  byId("select-clusters").addEventListener("click", () => {
    select(Array.from(points).filter((i) => broughtOut.has(columns.cluster[i])));
  });
  byId("selection-clear").addEventListener("click", () => select([]));
  byId("selection-copy").addEventListener("click", async () => {
    const done = await copied(`[${selection.map(rowOf).join(", ")}]`);
    byId("selection-said").textContent = done ? "Copied." : "Your browser does not let pages copy: download the selection.";
  });
  byId("selection-csv").addEventListener("click", () => {
    const records = selectedRecords();
    download("selection.csv", "text/csv", csv([Object.keys(records[0]), ...records.map(Object.values)]));
  });
  byId("selection-json").addEventListener("click", () => {
    download("selection.json", "application/json", JSON.stringify(selectedRecords(), null, 2));
  });
  document.addEventListener("click", (event) => {
    if (!event.target.matches("button.select")) return;
    const { set, number } = event.target.dataset;
    select(data[set][Number(number)]);
    byId("map").scrollIntoView();
    canvas.focus({ preventScroll: true });
  });
  startMap();
} else {
  document.querySelectorAll("button.select").forEach((button) => { button.hidden = true; });
}
byId("same-csv")?.addEventListener("click", () => {
  const rows = data.same.flatMap((group, n) => group.map((i) => [n + 1, rowOf(i), nameOf(i), columns.cluster[i]]));
  download("nearly_the_same.csv", "text/csv", csv([["group", "row", "sample", "cluster"], ...rows]));
});
