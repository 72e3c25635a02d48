"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// colours: as the system, light, dark
const themes = ["system", "light", "dark"];
byId("theme").addEventListener("click", (event) => {
  const root = document.documentElement;
  const now = root.dataset.theme || "system";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  root.dataset.theme = next;
  event.target.textContent = `Colours: ${next}`;
  event.target.setAttribute("aria-label", `Colours: ${next}. Change`);
});

// numbers before texts, missing values last whatever the direction
function compare(a, b, sign) {
  if (a === b) return 0;
  if (a === null || a === "") return 1;
  if (b === null || b === "") return -1;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

// a click on a column's button sorts by it, a second click turns the order around
function sortable(table, sort) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(column, up ? 1 : -1);
    });
  });
}

// the table of clusters
const clusterTable = byId("cluster-table");
sortable(clusterTable, (column, sign) => {
  const value = (row) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const body = clusterTable.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(value(a), value(b), sign));
  body.append(...rows);
});

// the gallery
const galleryList = byId("gallery-list");
const clusters = [...galleryList.children];
byId("order-clusters").addEventListener("change", (event) => {
  const sign = event.target.value.startsWith("-") ? -1 : 1;
  const key = event.target.value.replace("-", "");
  const value = (one) => (one.dataset[key] === "" ? null : Number(one.dataset[key]));
  galleryList.append(...clusters.sort((a, b) => compare(value(a), value(b), sign)));
});
// a number is looked for as a whole, else "1" would be found nearly everywhere
const stem = (name) => name.slice(name.lastIndexOf("/") + 1).replace(/\.\w+$/, "");
const matches = (text, wanted) => /^\d+$/.test(wanted)
  ? [text, stem(text)].includes(wanted) : text.toLowerCase().includes(wanted);
const titles = new Map(clusters.map((one) => [
  one, [...one.querySelectorAll(".tiles .name")].map((name) => name.title)]));
function findClusters() {
  const wanted = byId("find-cluster").value.trim().toLowerCase();
  const withSample = new Set();
  data.samples.name.forEach((name, i) => {
    if (wanted !== "" && matches(name, wanted)) withSample.add(String(data.samples.cluster[i]));
  });
  let shown = 0;
  clusters.forEach((one) => {
    const { cluster, majority } = one.dataset;
    one.hidden = wanted !== "" && !withSample.has(cluster) && ![
      `cluster ${cluster}`, cluster, majority, ...titles.get(one),
    ].some((text) => matches(text, wanted));
    shown += !one.hidden;
  });
  byId("gallery-count").textContent = `${shown} of ${clusters.length} clusters`;
}
byId("find-cluster").addEventListener("input", findClusters);
findClusters();
const openAll = (open) => clusters.forEach((one) => { if (!one.hidden) one.open = open; });
byId("open-all").addEventListener("click", () => openAll(true));
byId("close-all").addEventListener("click", () => openAll(false));

// the samples: columns of equal length, shown page by page
const samples = data.samples;
const columns = data.columns;
const perPage = 50;
let order = samples.cluster.map((_, i) => i);
let found = order;
let page = 0;

function tile(i) {
  const place = samples.tile[i];
  if (!place) return document.createTextNode("");
  const span = document.createElement("span");
  span.className = `tile s${place[0]}`;
  span.style.setProperty("--x", place[1] % data.tileColumns);
  span.style.setProperty("--y", Math.floor(place[1] / data.tileColumns));
  span.setAttribute("role", "img");
  span.setAttribute("aria-label", samples.name[i]);
  return span;
}
function cellText(key, value) {
  if (value === null) return "-";
  return key === "confidence" ? `${(100 * value).toFixed(1)}%` : String(value);
}
function showPage() {
  const body = byId("sample-table").tBodies[0];
  body.replaceChildren(...found.slice(page * perPage, (page + 1) * perPage).map((i) => {
    const row = document.createElement("tr");
    columns.forEach((key) => {
      const cell = document.createElement(key === "name" ? "th" : "td");
      if (key === "name") cell.scope = "row";
      if (key === "name" || key === "class") cell.className = "text";
      if (key === "tile") cell.append(tile(i));
      else cell.textContent = cellText(key, samples[key][i]);
      row.append(cell);
    });
    return row;
  }));
  const last = Math.min(found.length, (page + 1) * perPage);
  byId("page").textContent = found.length
    ? `${page * perPage + 1} to ${last} of ${found.length}` : "No sample fits";
  byId("previous").disabled = page === 0;
  byId("next").disabled = last >= found.length;
}
function findSamples() {
  const wanted = byId("find-sample").value.trim().toLowerCase();
  const cluster = byId("of-cluster").value;
  const most = byId("at-most").value === "" ? 1 : Number(byId("at-most").value) / 100;
  found = order.filter((i) =>
    (wanted === "" || samples.name[i].toLowerCase().includes(wanted) ||
      (samples.class !== undefined && matches(samples.class[i], wanted))) &&
    (cluster === "" || samples.cluster[i] === Number(cluster)) &&
    samples.confidence[i] <= most);
  page = 0;
  showPage();
}
sortable(byId("sample-table"), (column, sign) => {
  const values = samples[columns[column]];
  order = order.slice().sort((a, b) => compare(values[a], values[b], sign));
  findSamples();
});
[...new Set(samples.cluster)].sort((a, b) => a - b).forEach((cluster) => {
  byId("of-cluster").append(new Option(cluster === -1 ? "none" : cluster, cluster));
});
["find-sample", "of-cluster", "at-most"].forEach((id) => byId(id).addEventListener("input", findSamples));
byId("previous").addEventListener("click", () => { page -= 1; showPage(); });
byId("next").addEventListener("click", () => { page += 1; showPage(); });
galleryList.addEventListener("click", (event) => {
  if (!event.target.matches("button.members")) return;
  byId("of-cluster").value = event.target.value;
  byId("find-sample").value = "";
  byId("at-most").value = 100;
  findSamples();
  byId("samples").scrollIntoView();
  byId("of-cluster").focus({ preventScroll: true });
});
findSamples();
