"use strict";
const byId = (id) => document.getElementById(id);

// the samples: columns of numbers behind a JSON object, compressed; report_data.py writes them
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const whole = await new Response(stream).arrayBuffer();
  const length = new DataView(whole).getUint32(0, true);
  const data = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length)));
  const kinds = { Uint8Array, Int16Array, Uint16Array, Int32Array };
  let start = 4 + length;
  const columns = {};
  for (const [name, kind, n] of data.columns) {
    columns[name] = new kinds[kind](whole, start, n);
    start += Math.ceil(columns[name].byteLength / 4) * 4;
  }
  return { ...data, columns };
}
const packed = byId("data").textContent;
const data = await unpacked(packed);
const columns = data.columns;
const nSamples = columns.cluster.length;
const tileColumns = 10;

const rowOf = (i) => (columns.row ? columns.row[i] : i);
const nameOf = (i) => (data.names ? data.names[i] : String(rowOf(i)));
const confidenceOf = (i) => columns.confidence[i] / 65535;
const classOf = (i) => (columns.class ? data.classes[columns.class[i]] : null);
const hasPicture = (i) => columns.tile[i] >= 0;
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// the picture of a sample, as its place in the image of its cluster
function tile(i, tag = "span") {
  const cluster = columns.cluster[i];
  const number = columns.tile[i];
  const made = element(tag, { className: `tile s${cluster < 0 ? data.clusters : cluster}` });
  made.style.setProperty("--x", number % tileColumns);
  made.style.setProperty("--y", Math.floor(number / tileColumns));
  return made;
}
function pictureButton(i) {
  const made = tile(i, "button");
  made.type = "button";
  made.dataset.sample = i;
  made.setAttribute("aria-label", `Enlarge ${nameOf(i)}`);
  return made;
}

function download(name, type, text) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
const csvCell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
const csv = (rows) => rows.map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");

// colours: as the system, light, dark
const themes = ["system", "light", "dark"];
byId("theme").addEventListener("click", (event) => {
  const root = document.documentElement;
  const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
  root.dataset.theme = next;
  event.target.textContent = `Colours: ${next}`;
  event.target.setAttribute("aria-label", `Colours: ${next}. Change`);
  document.dispatchEvent(new Event("theme"));
});
const systemDark = matchMedia("(prefers-color-scheme: dark)");
systemDark.addEventListener("change", () => document.dispatchEvent(new Event("theme")));
function isDark() {
  const theme = document.documentElement.dataset.theme || "system";
  return theme === "system" ? systemDark.matches : theme === "dark";
}

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
    head.querySelector("button")?.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(column, up ? 1 : -1);
    });
  });
}
// a number is looked for as a whole, else "1" would be found nearly everywhere
const stem = (name) => name.slice(name.lastIndexOf("/") + 1).replace(/\.\w+$/, "");
const matches = (text, wanted) => (/^\d+$/.test(wanted)
  ? [text, stem(text)].includes(wanted) : text.toLowerCase().includes(wanted));
